// The selective scan, forwards. States of a channel block stay in registers over a block of tokens.
#pragma once
#include "scan_common.h"

namespace audiomamba {
namespace AUDIOMAMBA_ISA {

// Advance `NS` states of one channel block over `count` tokens and add their share to y.
template <int NS>
inline void advance(int count, const vfloat* A2, vfloat* states, const vfloat* delta, const vfloat* weighted,
                    const float* const* B, const float* const* C, int64_t n, vfloat* y) {
  vfloat x[NS];
#pragma GCC unroll 32
  for (int k = 0; k < NS; ++k) x[k] = states[n + k];
  for (int t = 0; t < count; ++t) {
    const float* b = B[t] + n;
    const float* c = C[t] + n;
    const vfloat d = delta[t], w = weighted[t];
    vfloat even = y[t], odd = splat(0.0f);
#pragma GCC unroll 32
    for (int k = 0; k < NS; ++k) {
      x[k] = exp2_product(d, A2[n + k]) * x[k] + w * splat(b[k]);
      if (k % 2)
        odd += x[k] * splat(c[k]);
      else
        even += x[k] * splat(c[k]);
    }
    y[t] = even + odd;
  }
#pragma GCC unroll 32
  for (int k = 0; k < NS; ++k) states[n + k] = x[k];
}

inline void advance_all(int count, int64_t n_states, const vfloat* A2, vfloat* states, const vfloat* delta,
                        const vfloat* weighted, const float* const* B, const float* const* C, vfloat* y) {
  constexpr int kWide = kLanes == 16 ? 24 : 8;  // as many states as the registers hold
  int64_t n = 0;
  for (; n + kWide <= n_states; n += kWide) advance<kWide>(count, A2, states, delta, weighted, B, C, n, y);
  if constexpr (kWide > 16)
    for (; n + 16 <= n_states; n += 16) advance<16>(count, A2, states, delta, weighted, B, C, n, y);
  if constexpr (kWide > 8)
    for (; n + 8 <= n_states; n += 8) advance<8>(count, A2, states, delta, weighted, B, C, n, y);
  for (; n + 4 <= n_states; n += 4) advance<4>(count, A2, states, delta, weighted, B, C, n, y);
  for (; n < n_states; ++n) advance<1>(count, A2, states, delta, weighted, B, C, n, y);
}

inline void scan_forward(const ScanArgs& a, int64_t index) {
  DenormalsOff quiet;
  const Item item = scan_item(a, index);
  vfloat A2[kBlocksPerItem][kMaxStates], states[kBlocksPerItem][kMaxStates];
  vfloat delta[kBlock], weighted[kBlock], y[kBlock];
  int64_t positions[kBlock], upcoming[kBlock];
  Rows B, C;
  for (int64_t direction = 0; direction < a.directions; ++direction) {
    const Walk walk(a, direction);
    const int64_t group = a.directions > 1 ? direction : item.group;
    const int64_t parameters = direction * a.channels + item.first;
    for (int64_t block = 0; block < item.blocks(); ++block) {
      const int lanes = item.lanes(block);
      const int64_t at = parameters + block * kLanes;
      gather_states(a.A + at * a.states, a.states, lanes, A2[block]);
      for (int64_t n = 0; n < a.states; ++n) A2[block][n] *= splat(kLog2e);
      if (a.initial_state) {
        const int64_t channel = item.clip * a.channels + item.first + block * kLanes;
        gather_states(a.initial_state + channel * a.states, a.states, lanes, states[block]);
      } else {
        for (int64_t n = 0; n < a.states; ++n) states[block][n] = splat(0.0f);
      }
    }
    for (int64_t start = 0; start < a.length; start += kBlock) {
      const int count = int(a.length - start < kBlock ? a.length - start : kBlock);
      walk.positions(start, count, positions);
      walk.positions(start + kBlock < a.length ? start + kBlock : start, count, upcoming);
      B.read(a.B, item.clip, group, a.states, positions, count);
      C.read(a.C, item.clip, group, a.states, positions, count);
      for (int64_t block = 0; block < item.blocks(); ++block) {
        const int lanes = item.lanes(block);
        const int64_t channel = item.first + block * kLanes;
        if (a.checkpoints) {
          char* to = reinterpret_cast<char*>(checkpoint(a, item.clip, direction, start / kBlock, channel));
          const float* soon = checkpoint(a, item.clip, direction, start + kBlock < a.length ? start / kBlock + 1 : 0, channel);
          for (int64_t n = 0; n < a.states; ++n) {
            store(to, kFloat32, n * a.channels, lanes, states[block][n]);
            __builtin_prefetch(soon + n * a.channels, 1);
          }
        }
        const int64_t parameter = direction * a.channels + channel;
        const vfloat bias = a.delta_bias ? load_channels(a.delta_bias, parameter, lanes) : splat(0.0f);
        const vfloat skip = a.D ? load_channels(a.D, parameter, lanes) : splat(0.0f);
        for (int t = 0; t < count; ++t) {
          const int64_t position = positions[t];
          fetch_early(a.u, item.clip, upcoming[t], 0, channel);
          fetch_early(a.delta, item.clip, upcoming[t], direction, channel);
          if (a.z.data) fetch_early(a.z, item.clip, upcoming[t], 0, channel);
          fetch_early(a.y, item.clip, upcoming[t], 0, channel);
          const vfloat u = load_row(a.u, item.clip * a.u.batch + position * a.u.row + channel, lanes);
          const int64_t at = item.clip * a.delta.batch + position * a.delta.row + direction * a.delta.group;
          vfloat d = load_row(a.delta, at + channel, lanes) + bias;
          if (a.softplus) d = softplus(d);
          delta[t] = d;
          weighted[t] = d * u;
          y[t] = skip * u;
        }
        advance_all(count, a.states, A2[block], states[block], delta, weighted, B.row, C.row, y);
        for (int t = 0; t < count; ++t) {
          const int64_t position = positions[t];
          vfloat out = y[t];
          if (a.z.data) {
            const int64_t at = item.clip * a.z.batch + position * a.z.row + channel;
            out *= silu(load_row(a.z, at, lanes));
          }
          const int64_t at = item.clip * a.y.batch + position * a.y.row + channel;
          if (direction > 0) out += load_row(a.y, at, lanes);
          store(a.y.data, a.y.dtype, at, lanes, out);
        }
      }
    }
    if (a.last_state) {
      for (int64_t block = 0; block < item.blocks(); ++block) {
        const int64_t channel = item.clip * a.directions * a.channels + parameters + block * kLanes;
        scatter_states(states[block], a.states, item.lanes(block), a.last_state + channel * a.states);
      }
    }
  }
}

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
