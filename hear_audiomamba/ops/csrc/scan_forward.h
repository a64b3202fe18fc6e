// The selective scan, forwards. States of a channel block stay in registers over a block of tokens.
#pragma once
#include "scan_common.h"

namespace audiomamba {
namespace AUDIOMAMBA_ISA {

// Advance `NS` states of one channel block over `count` tokens and add their share to y.
template <int NS, class Power>
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
    constexpr int kTogether = NS % 4 == 0 ? 4 : 1;
#pragma GCC unroll 32
    for (int k = 0; k < NS; k += kTogether) {
      vfloat decay[kTogether], inflow[kTogether];
      exp2_products<kTogether, Power>(d, A2 + n + k, decay);
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i) inflow[i] = w * splat(b[k + i]);
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i) x[k + i] = decay[i] * x[k + i] + inflow[i];
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i) {
        if (i % 2)
          odd += x[k + i] * splat(c[k + i]);
        else
          even += x[k + i] * splat(c[k + i]);
      }
    }
    y[t] = even + odd;
  }
#pragma GCC unroll 32
  for (int k = 0; k < NS; ++k) states[n + k] = x[k];
}

template <class Power>
inline void advance_all(int count, int64_t n_states, const vfloat* A2, vfloat* states, const vfloat* delta,
                        const vfloat* weighted, const float* const* B, const float* const* C, vfloat* y) {
  constexpr int kWide = 8;  // what the registers hold beside the constants
  int64_t n = 0;
  for (; n + kWide <= n_states; n += kWide) advance<kWide, Power>(count, A2, states, delta, weighted, B, C, n, y);
  for (; n + 4 <= n_states; n += 4) advance<4, Power>(count, A2, states, delta, weighted, B, C, n, y);
  for (; n < n_states; ++n) advance<1, Power>(count, A2, states, delta, weighted, B, C, n, y);
}

// One block of tokens of one channel block: what the states need of it, and what becomes of them.
struct ForwardTokens {
  vfloat delta[kBlock], weighted[kBlock], y[kBlock];
};

// Where that block lies. `upcoming` are the positions of the next block, fetched early.
struct TokenBlock {
  int64_t clip, direction, channel;
  int lanes, count;
  const int64_t *positions, *upcoming;
};

// Read the tokens: softplus of the steps, the weighted inputs, and the skip as the start of y.
template <Dtype kType, bool kWhole>
inline void enter(const ScanArgs& a, const TokenBlock& at, ForwardTokens& k) {
  const int lanes = kWhole ? kLanes : at.lanes;
  const int64_t parameter = at.direction * a.channels + at.channel;
  const vfloat bias = a.delta_bias ? load_channels(a.delta_bias, parameter, lanes) : splat(0.0f);
  const vfloat skip = a.D ? load_channels(a.D, parameter, lanes) : splat(0.0f);
  const Column<kType> u_rows(a.u, at.clip, 0, at.channel), delta_rows(a.delta, at.clip, at.direction, at.channel);
  const bool soft = a.softplus;
  for (int t = 0; t < at.count; ++t) {
    u_rows.fetch(at.upcoming[t]);
    delta_rows.fetch(at.upcoming[t]);
    const vfloat u = u_rows.read(at.positions[t], lanes);
    vfloat d = delta_rows.read(at.positions[t], lanes) + bias;
    if (soft) d = softplus(d);
    k.delta[t] = d;
    k.weighted[t] = d * u;
    k.y[t] = skip * u;
  }
}

// Write the tokens: y behind its gate, added to what earlier directions have left.
template <Dtype kType, bool kWhole>
inline void leave(const ScanArgs& a, const TokenBlock& at, const ForwardTokens& k) {
  const int lanes = kWhole ? kLanes : at.lanes;
  const Column<kType> z_rows(a.z, at.clip, 0, at.channel), y_rows(a.y, at.clip, 0, at.channel);
  const bool gated = a.z.data, first = at.direction == 0;
  for (int t = 0; t < at.count; ++t) {
    vfloat out = k.y[t];
    if (gated) {
      z_rows.fetch(at.upcoming[t]);
      out *= silu(z_rows.read(at.positions[t], lanes));
    }
    y_rows.fetch(at.upcoming[t]);
    if (!first) out += y_rows.read(at.positions[t], lanes);
    y_rows.write(at.positions[t], lanes, out);
  }
}

// The two above, made for the tensors at hand.
struct Doors {
  void (*enter)(const ScanArgs&, const TokenBlock&, ForwardTokens&);
  void (*leave)(const ScanArgs&, const TokenBlock&, const ForwardTokens&);
};
inline Doors doors_of(const ScanArgs& a, bool whole) {
  const int64_t type = a.u.dtype;
  const bool same = a.delta.dtype == type && a.y.dtype == type && (!a.z.data || a.z.dtype == type);
  if (same && whole && type == kFloat32) return {enter<kFloat32, true>, leave<kFloat32, true>};
  if (same && whole && type == kBFloat16) return {enter<kBFloat16, true>, leave<kBFloat16, true>};
  return {enter<kAny, false>, leave<kAny, false>};
}

inline void scan_forward(const ScanArgs& a, int64_t blocks, int64_t index) {
  DenormalsOff quiet;
  const Item item = scan_item(a, blocks, index);
  vfloat A2_all[kMostBlocks * kMaxStates], states_all[kMostBlocks * kMaxStates];
  ForwardTokens tokens;
  int64_t positions[kBlock], upcoming[kBlock];
  Rows B, C;
  for (int64_t direction = 0; direction < a.directions; ++direction) {
    const Walk walk(a, direction);
    const int64_t group = a.directions > 1 ? direction : item.group;
    const int64_t parameters = direction * a.channels + item.first;
    for (int64_t block = 0; block < item.blocks(); ++block) {
      const int lanes = item.lanes(block);
      const int64_t at = parameters + block * kLanes;
      vfloat *A2 = A2_all + block * a.states, *states = states_all + block * a.states;
      gather_states(a.A + at * a.states, a.states, lanes, A2);
      for (int64_t n = 0; n < a.states; ++n) A2[n] *= splat(kLog2e);
      if (a.initial_state) {
        const int64_t channel = item.clip * a.channels + item.first + block * kLanes;
        gather_states(a.initial_state + channel * a.states, a.states, lanes, states);
      } else {
        for (int64_t n = 0; n < a.states; ++n) states[n] = splat(0.0f);
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
        const TokenBlock at{item.clip, direction, item.first + block * kLanes, lanes, count, positions, upcoming};
        const Doors doors = doors_of(a, lanes == kLanes);
        vfloat *A2 = A2_all + block * a.states, *states = states_all + block * a.states;
        if (a.checkpoints) {
          const int64_t soon_block = start + kBlock < a.length ? start / kBlock + 1 : 0;
          char* to = reinterpret_cast<char*>(checkpoint(a, item.clip, direction, start / kBlock, at.channel));
          const float* soon = checkpoint(a, item.clip, direction, soon_block, at.channel);
          for (int64_t n = 0; n < a.states; ++n) {
            store(to, kFloat32, n * a.channels, lanes, states[n]);
            __builtin_prefetch(soon + n * a.channels, 1);
          }
        }
        doors.enter(a, at, tokens);
        advance_all<FinePower>(count, a.states, A2, states, tokens.delta, tokens.weighted, B.row, C.row, tokens.y);
        doors.leave(a, at, tokens);
      }
    }
    if (a.last_state) {
      for (int64_t block = 0; block < item.blocks(); ++block) {
        const int64_t channel = item.clip * a.directions * a.channels + parameters + block * kLanes;
        scatter_states(states_all + block * a.states, a.states, item.lanes(block), a.last_state + channel * a.states);
      }
    }
  }
}

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
