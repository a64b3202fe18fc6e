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
  vfloat u[kBlock], delta[kBlock], weighted[kBlock], slope[kBlock];  // slope: d softplus
  vfloat dout[kBlock], dy[kBlock];                                   // after and before the gate
  vfloat y[kBlock];                                                  // before the gate
  vfloat along_B[kBlock], along_A[kBlock];                           // sums over the states
};

// Gradients that outlive a block of tokens.
struct BackwardSums {
  std::vector<vfloat> A2, flow, dA;  // (channel blocks, states); flow reaches the state from later tokens
  vfloat dD[kBlocksPerItem] = {}, dbias[kBlocksPerItem] = {};
  std::vector<vfloat> dB, dC;  // (tokens, states), summed over the item's channel blocks
  std::vector<vfloat> start;   // one channel block's states before the block of tokens
  explicit BackwardSums(int64_t states)
      : A2(kBlocksPerItem * states), flow(kBlocksPerItem * states), dA(kBlocksPerItem * states),
        dB(kBlock * states), dC(kBlock * states), start(states) {}
};

// Take `NS` states, from state n on, forwards and back through `count` tokens.
template <int NS>
inline void retrace(int count, int64_t states, int64_t n, const vfloat* start, const vfloat* A2,
                    vfloat* flow_all, vfloat* dA_all, const float* const* B, const float* const* C,
                    BackwardTokens& k, vfloat* dB, vfloat* dC) {
  vfloat decay[kBlock][NS], x[kBlock + 1][NS];
#pragma GCC unroll 16
  for (int i = 0; i < NS; ++i) x[0][i] = start[n + i];
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
    dA[i] = dA_all[n + i];
  }
  for (int t = count - 1; t >= 0; --t) {
    const vfloat d = k.delta[t], w = k.weighted[t], dy = k.dy[t];
    const float *b = B[t] + n, *c = C[t] + n;
    vfloat *db = dB + t * states + n, *dc = dC + t * states + n;
    vfloat along_B = k.along_B[t], along_A = k.along_A[t];
#pragma GCC unroll 16
    for (int i = 0; i < NS; ++i) {
      const vfloat dx = dy * splat(c[i]) + flow[i];
      dc[i] += dy * x[t + 1][i];
      db[i] += dx * w;
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
    dA_all[n + i] = dA[i];
  }
}

inline void write_row_sums(const View& v, const Item& item, int64_t split_stride, int64_t group, int64_t states,
                           const int64_t* positions, int count, std::vector<vfloat>& sums) {
  for (int t = 0; t < count; ++t) {
    float* to = reinterpret_cast<float*>(v.data) + item.split * split_stride + item.clip * v.batch +
                positions[t] * v.row + group * v.group;
    for (int64_t n = 0; n < states; ++n) {
      to[n] = sum(sums[t * states + n]);
      sums[t * states + n] = splat(0.0f);
    }
  }
}

inline void scan_backward(const ScanArgs& a, const ScanGradients& g, int64_t index) {
  DenormalsOff quiet;
  const Item item = scan_item(a, index);
  const int64_t N = a.states, blocks = item.blocks();
  BackwardTokens k;
  int64_t positions[kBlock];
  Rows B, C;
  for (int64_t direction = 0; direction < a.directions; ++direction) {
    const Walk walk(a, direction);
    const int64_t group = a.directions > 1 ? direction : item.group;
    BackwardSums sums(N);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t channel = item.first + block * kLanes, lanes = item.lanes(block);
      gather_states(a.A + (direction * a.channels + channel) * N, N, lanes, &sums.A2[block * N]);
      for (int64_t n = 0; n < N; ++n) sums.A2[block * N + n] *= splat(kLog2e);
      if (g.dlast_state)
        gather_states(g.dlast_state + (item.clip * a.channels + channel) * N, N, lanes, &sums.flow[block * N]);
    }
    for (int64_t start = (a.length - 1) / kBlock * kBlock; start >= 0; start -= kBlock) {
      const int count = int(a.length - start < kBlock ? a.length - start : kBlock);
      walk.positions(start, count, positions);
      B.read(a.B, item.clip, group, N, positions, count);
      C.read(a.C, item.clip, group, N, positions, count);
      for (int64_t block = 0; block < blocks; ++block) {
        const int lanes = item.lanes(block);
        const int64_t channel = item.first + block * kLanes, parameter = direction * a.channels + channel;
        const vfloat bias = a.delta_bias ? load_channels(a.delta_bias, parameter, lanes) : splat(0.0f);
        const vfloat skip = a.D ? load_channels(a.D, parameter, lanes) : splat(0.0f);
        const auto offset = [&](const View& v, int t, int64_t of_group) {
          return item.clip * v.batch + positions[t] * v.row + of_group * v.group + channel;
        };
        for (int t = 0; t < count; ++t) {
          k.u[t] = load_row(a.u, offset(a.u, t, 0), lanes);
          k.delta[t] = load_row(a.delta, offset(a.delta, t, direction), lanes) + bias;
          k.slope[t] = splat(1.0f);
          if (a.softplus) {
            k.slope[t] = sigmoid(k.delta[t]);
            k.delta[t] = softplus(k.delta[t]);
          }
          k.weighted[t] = k.delta[t] * k.u[t];
          k.dout[t] = k.dy[t] = load_row(g.dy, offset(g.dy, t, 0), lanes);
          if (a.z.data) k.dy[t] *= silu(load_row(a.z, offset(a.z, t, 0), lanes));
          k.y[t] = skip * k.u[t];
          k.along_B[t] = k.along_A[t] = splat(0.0f);
        }
        const float* saved = checkpoint(a, item.clip, direction, start / kBlock, channel);
        for (int64_t n = 0; n < N; ++n) sums.start[n] = load_channels(saved, n * a.channels, lanes);
        const vfloat* A2 = &sums.A2[block * N];
        vfloat *flow = &sums.flow[block * N], *dA = &sums.dA[block * N];
        int64_t n = 0;
        for (; n + 8 <= N; n += 8)
          retrace<8>(count, N, n, sums.start.data(), A2, flow, dA, B.row, C.row, k, sums.dB.data(), sums.dC.data());
        for (; n + 4 <= N; n += 4)
          retrace<4>(count, N, n, sums.start.data(), A2, flow, dA, B.row, C.row, k, sums.dB.data(), sums.dC.data());
        for (; n < N; ++n)
          retrace<1>(count, N, n, sums.start.data(), A2, flow, dA, B.row, C.row, k, sums.dB.data(), sums.dC.data());
        for (int t = 0; t < count; ++t) {
          vfloat du = k.along_B[t] * k.delta[t] + skip * k.dy[t];
          const int64_t at = offset(g.du, t, 0);
          if (direction > 0) du += load_row(g.du, at, lanes);
          store(g.du.data, g.du.dtype, at, lanes, du);
          const vfloat ddelta = (k.along_A[t] * splat(kLn2) + k.along_B[t] * k.u[t]) * k.slope[t];
          store(g.ddelta.data, g.ddelta.dtype, offset(g.ddelta, t, direction), lanes, ddelta);
          sums.dbias[block] += ddelta;
          sums.dD[block] += k.dy[t] * k.u[t];
          if (a.z.data) {
            const vfloat z = load_row(a.z, offset(a.z, t, 0), lanes);
            const vfloat s = sigmoid(z);
            const vfloat dz = k.dout[t] * k.y[t] * (s + z * s * (splat(1.0f) - s));
            store(g.dz.data, g.dz.dtype, offset(g.dz, t, 0), lanes, dz);
          }
        }
      }
      write_row_sums(g.dB, item, g.split_stride, group, N, positions, count, sums.dB);
      write_row_sums(g.dC, item, g.split_stride, group, N, positions, count, sums.dC);
    }
    for (int64_t block = 0; block < blocks; ++block) {
      const int lanes = item.lanes(block);
      const int64_t channel = item.first + block * kLanes;
      const int64_t parameter = (item.clip * a.directions + direction) * a.channels + channel;
      scatter_states(&sums.dA[block * N], N, lanes, g.dA + parameter * N);
      store(reinterpret_cast<char*>(g.dD), kFloat32, parameter, lanes, sums.dD[block]);
      store(reinterpret_cast<char*>(g.ddelta_bias), kFloat32, parameter, lanes, sums.dbias[block]);
      if (g.dinitial_state)
        scatter_states(&sums.flow[block * N], N, lanes, g.dinitial_state + (item.clip * a.channels + channel) * N);
    }
  }
}

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
