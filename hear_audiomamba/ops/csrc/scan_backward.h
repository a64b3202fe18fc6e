// The gradient of the selective scan: from the last block of tokens to the first, each block's states are
// computed again from its checkpoint and kept for as long as the block takes.
#pragma once
#include <vector>

#include "scan_common.h"

namespace audiomamba {
namespace AUDIOMAMBA_ISA {

constexpr float kLn2 = 0.693147181f;

// What one block of tokens of one channel block needs, a vector of channels per token.
struct BackwardTokens {
  vfloat u[kBlock], delta[kBlock], weighted[kBlock], slope[kBlock];  // slope: of softplus
  vfloat z[kBlock], open[kBlock];                                    // open: sigmoid(z)
  vfloat dout[kBlock], dy[kBlock];                                   // after and before the gate
  vfloat y[kBlock];                                                  // before the gate
  vfloat along_B[kBlock], along_A[kBlock];                           // sums over the states
};

// What outlives a block of tokens; each vector holds (channel blocks, states).
struct BackwardSums {
  std::vector<vfloat> A2, flow, dA;  // flow: the gradient that reaches the state from later tokens
  vfloat dD[kBlocksPerItem] = {}, dbias[kBlocksPerItem] = {};
  explicit BackwardSums(int64_t states)
      : A2(kBlocksPerItem * states), flow(kBlocksPerItem * states), dA(kBlocksPerItem * states) {}
};

// Take `NS` states of one channel block, from state n on, forwards and back through `count` tokens.
// dB and dC (tokens, NS) gather what this block of channels adds, or are started by the first one.
template <int NS, bool kFirst>
inline void retrace(int count, int64_t n, const vfloat* start, const vfloat* A2, vfloat* flow_all, vfloat* dA_all,
                    const float* const* B, const float* const* C, BackwardTokens& k, vfloat* dB, vfloat* dC) {
  vfloat decay[kBlock][NS], x[kBlock + 1][NS];
#pragma GCC unroll 16
  for (int i = 0; i < NS; ++i) x[0][i] = start[i];
  for (int t = 0; t < count; ++t) {
    const vfloat d = k.delta[t], w = k.weighted[t];
    const float *b = B[t] + n, *c = C[t] + n;
    vfloat y = k.y[t];
#pragma GCC unroll 16
    for (int i = 0; i < NS; ++i) {
      const vfloat a = exp2_product(d, A2[n + i]);
      const vfloat next = a * x[t][i] + w * splat(b[i]);
      decay[t][i] = a;
      x[t + 1][i] = next;
      y += next * splat(c[i]);
    }
    k.y[t] = y;
  }
  vfloat flow[NS], dA[NS];
#pragma GCC unroll 16
  for (int i = 0; i < NS; ++i) {
    flow[i] = flow_all[n + i];
    dA[i] = splat(0.0f);
  }
  for (int t = count - 1; t >= 0; --t) {
    const vfloat d = k.delta[t], w = k.weighted[t], dy = k.dy[t];
    const float *b = B[t] + n, *c = C[t] + n;
    vfloat along_B = k.along_B[t], along_A = k.along_A[t];
#pragma GCC unroll 16
    for (int i = 0; i < NS; ++i) {
      const vfloat dx = dy * splat(c[i]) + flow[i];
      dC[t * NS + i] = kFirst ? dy * x[t + 1][i] : dC[t * NS + i] + dy * x[t + 1][i];
      dB[t * NS + i] = kFirst ? dx * w : dB[t * NS + i] + dx * w;
      along_B += dx * splat(b[i]);
      flow[i] = dx * decay[t][i];
      const vfloat through = flow[i] * x[t][i];
      along_A += through * A2[n + i];
      dA[i] += through * d;
    }
    k.along_B[t] = along_B;
    k.along_A[t] = along_A;
  }
#pragma GCC unroll 16
  for (int i = 0; i < NS; ++i) {
    flow_all[n + i] = flow[i];
    dA_all[n + i] += dA[i];
  }
}

// One item's pass over one direction.
struct BackwardPass {
  const ScanArgs& a;
  const ScanGradients& g;
  const Item& item;
  const int64_t direction, group;
  BackwardSums sums;
  BackwardTokens tokens[kBlocksPerItem];
  Rows B, C;
  int64_t positions[kBlock], upcoming[kBlock];
  int count;

  BackwardPass(const ScanArgs& args, const ScanGradients& gradients, const Item& which, int64_t direction_)
      : a(args), g(gradients), item(which), direction(direction_),
        group(args.directions > 1 ? direction_ : which.group), sums(args.states) {
    for (int64_t block = 0; block < item.blocks(); ++block) {
      const int64_t channel = item.first + block * kLanes, N = a.states;
      vfloat* A2 = &sums.A2[block * N];
      gather_states(a.A + (direction * a.channels + channel) * N, N, item.lanes(block), A2);
      for (int64_t n = 0; n < N; ++n) A2[n] *= splat(kLog2e);
      if (g.dlast_state) {
        const float* from = g.dlast_state + (item.clip * a.channels + channel) * N;
        gather_states(from, N, item.lanes(block), &sums.flow[block * N]);
      }
    }
  }

  int64_t offset(const View& v, int t, int64_t of_group, int64_t channel) const {
    return item.clip * v.batch + positions[t] * v.row + of_group * v.group + channel;
  }

  void read_tokens(int64_t block) {
    BackwardTokens& k = tokens[block];
    const int lanes = item.lanes(block);
    const int64_t channel = item.first + block * kLanes, parameter = direction * a.channels + channel;
    const vfloat bias = a.delta_bias ? load_channels(a.delta_bias, parameter, lanes) : splat(0.0f);
    const vfloat skip = a.D ? load_channels(a.D, parameter, lanes) : splat(0.0f);
    for (int t = 0; t < count; ++t) {
      fetch_early(a.u, item.clip, upcoming[t], 0, channel);
      fetch_early(a.delta, item.clip, upcoming[t], direction, channel);
      fetch_early(g.dy, item.clip, upcoming[t], 0, channel);
      fetch_early(g.du, item.clip, upcoming[t], 0, channel);
      fetch_early(g.ddelta, item.clip, upcoming[t], direction, channel);
      k.u[t] = load_row(a.u, offset(a.u, t, 0, channel), lanes);
      k.delta[t] = load_row(a.delta, offset(a.delta, t, direction, channel), lanes) + bias;
      k.slope[t] = splat(1.0f);
      if (a.softplus) k.delta[t] = softplus(k.delta[t], &k.slope[t]);
      k.weighted[t] = k.delta[t] * k.u[t];
      k.dout[t] = k.dy[t] = load_row(g.dy, offset(g.dy, t, 0, channel), lanes);
      if (a.z.data) {
        fetch_early(a.z, item.clip, upcoming[t], 0, channel);
        fetch_early(g.dz, item.clip, upcoming[t], 0, channel);
        k.z[t] = load_row(a.z, offset(a.z, t, 0, channel), lanes);
        k.open[t] = sigmoid(k.z[t]);
        k.dy[t] *= k.z[t] * k.open[t];
      }
      k.y[t] = skip * k.u[t];
      k.along_B[t] = k.along_A[t] = splat(0.0f);
    }
  }

  // `NS` states, from state n on, of every channel block; then their rows of dB and dC.
  template <int NS>
  void retrace_blocks(int64_t token_block, int64_t n) {
    constexpr int kRows = (kBlock * NS + kLanes - 1) / kLanes * kLanes;
    vfloat dB[kRows], dC[kRows], start[NS];
    for (int64_t block = 0; block < item.blocks(); ++block) {
      const int64_t channel = item.first + block * kLanes, at = block * a.states;
      const float* saved = checkpoint(a, item.clip, direction, token_block, channel);
      const float* soon = checkpoint(a, item.clip, direction, token_block ? token_block - 1 : 0, channel);
      for (int i = 0; i < NS; ++i) {
        start[i] = load_channels(saved, (n + i) * a.channels, item.lanes(block));
        __builtin_prefetch(soon + (n + i) * a.channels);
      }
      const auto step = block ? retrace<NS, false> : retrace<NS, true>;
      step(count, n, start, &sums.A2[at], &sums.flow[at], &sums.dA[at], B.row, C.row, tokens[block], dB, dC);
    }
    write_rows<NS>(g.dB, n, dB);
    write_rows<NS>(g.dC, n, dC);
  }

  template <int NS>
  void write_rows(const View& v, int64_t n, vfloat* sums_of_channels) const {
    constexpr int kRows = (kBlock * NS + kLanes - 1) / kLanes * kLanes;
    float rows[kRows];
    for (int i = 0; i < kRows; i += kLanes) store(rows + i, sum_each(sums_of_channels + i));
    for (int t = 0; t < count; ++t) {
      float* to = reinterpret_cast<float*>(v.data) + item.split * g.split_stride + offset(v, t, group, n);
      for (int i = 0; i < NS; ++i) to[i] = rows[t * NS + i];
    }
  }

  void write_tokens(int64_t block) {
    const BackwardTokens& k = tokens[block];
    const int lanes = item.lanes(block);
    const int64_t channel = item.first + block * kLanes;
    const vfloat skip = a.D ? load_channels(a.D, direction * a.channels + channel, lanes) : splat(0.0f);
    // Summed by blocks of tokens, so that rounding does not grow with the clip.
    vfloat dbias = splat(0.0f), dD = splat(0.0f);
    for (int t = 0; t < count; ++t) {
      vfloat du = k.along_B[t] * k.delta[t] + skip * k.dy[t];
      const int64_t at = offset(g.du, t, 0, channel);
      if (direction > 0) du += load_row(g.du, at, lanes);
      store(g.du.data, g.du.dtype, at, lanes, du);
      const vfloat ddelta = (k.along_A[t] * splat(kLn2) + k.along_B[t] * k.u[t]) * k.slope[t];
      store(g.ddelta.data, g.ddelta.dtype, offset(g.ddelta, t, direction, channel), lanes, ddelta);
      dbias += ddelta;
      dD += k.dy[t] * k.u[t];
      if (!a.z.data) continue;
      const vfloat dz = k.dout[t] * k.y[t] * silu_slope(k.z[t], k.open[t]);
      store(g.dz.data, g.dz.dtype, offset(g.dz, t, 0, channel), lanes, dz);
    }
    sums.dbias[block] += dbias;
    sums.dD[block] += dD;
  }

  void run() {
    const Walk walk(a, direction);
    for (int64_t start = (a.length - 1) / kBlock * kBlock; start >= 0; start -= kBlock) {
      count = int(a.length - start < kBlock ? a.length - start : kBlock);
      walk.positions(start, count, positions);
      walk.positions(start >= kBlock ? start - kBlock : start, count, upcoming);
      B.read(a.B, item.clip, group, a.states, positions, count);
      C.read(a.C, item.clip, group, a.states, positions, count);
      for (int64_t block = 0; block < item.blocks(); ++block) read_tokens(block);
      int64_t n = 0;
      for (; n + 8 <= a.states; n += 8) retrace_blocks<8>(start / kBlock, n);
      for (; n + 4 <= a.states; n += 4) retrace_blocks<4>(start / kBlock, n);
      for (; n < a.states; ++n) retrace_blocks<1>(start / kBlock, n);
      for (int64_t block = 0; block < item.blocks(); ++block) write_tokens(block);
    }
    write_parameters();
  }

  void write_parameters() {
    const int64_t N = a.states;
    for (int64_t block = 0; block < item.blocks(); ++block) {
      const int lanes = item.lanes(block);
      const int64_t channel = item.first + block * kLanes;
      const int64_t parameter = (item.clip * a.directions + direction) * a.channels + channel;
      scatter_states(&sums.dA[block * N], N, lanes, g.dA + parameter * N);
      store(reinterpret_cast<char*>(g.dD), kFloat32, parameter, lanes, sums.dD[block]);
      store(reinterpret_cast<char*>(g.ddelta_bias), kFloat32, parameter, lanes, sums.dbias[block]);
      if (g.dinitial_state) {
        float* to = g.dinitial_state + (item.clip * a.channels + channel) * N;
        scatter_states(&sums.flow[block * N], N, lanes, to);
      }
    }
  }
};

inline int64_t backward_items(const ScanArgs& a) { return scan_items(a, kBlocksPerItem); }

inline void scan_backward(const ScanArgs& a, const ScanGradients& g, int64_t index) {
  DenormalsOff quiet;
  const Item item = scan_item(a, kBlocksPerItem, index);
  for (int64_t direction = 0; direction < a.directions; ++direction)
    BackwardPass(a, g, item, direction).run();
}

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
