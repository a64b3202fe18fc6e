// The short causal convolution of each channel with its own taps, and SiLU: forwards and backwards.
#pragma once
#include "scan_common.h"

namespace audiomamba {
namespace AUDIOMAMBA_ISA {

constexpr int kMaxTaps = 16;
constexpr int kConvBlocks = 4;  // channel blocks of one item

inline int64_t conv_items(const ConvArgs& a) { return a.batch * ceil_div(a.channels, kConvBlocks * kLanes); }

// One item: a few channel blocks of one clip, with their taps as vectors and the inputs before the clip.
struct ConvItem {
  int64_t clip, first, blocks;
  int lanes[kConvBlocks];
  vfloat taps[kConvBlocks][kMaxTaps], bias[kConvBlocks], before[kConvBlocks][kMaxTaps];

  ConvItem(const ConvArgs& a, int64_t index) {
    const int64_t per_clip = ceil_div(a.channels, kConvBlocks * kLanes);
    clip = index / per_clip;
    first = index % per_clip * kConvBlocks * kLanes;
    const int64_t left = a.channels - first;
    blocks = left < kConvBlocks * kLanes ? ceil_div(left, kLanes) : kConvBlocks;
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t channel = first + i * kLanes;
      lanes[i] = a.channels - channel < kLanes ? int(a.channels - channel) : kLanes;
      gather_states(a.weight + channel * a.taps, a.taps, lanes[i], taps[i]);
      bias[i] = a.bias ? load_channels(a.bias, channel, lanes[i]) : splat(0.0f);
      const int64_t past = a.taps - 1;
      if (a.initial_state) {
        const int64_t at = (clip * a.channels + channel) * past;
        gather_states(a.initial_state + at, past, lanes[i], before[i]);
      } else {
        for (int64_t k = 0; k < past; ++k) before[i][k] = splat(0.0f);
      }
    }
  }

  int64_t offset(const View& v, int64_t position, int64_t block) const {
    return clip * v.batch + position * v.row + first + block * kLanes;
  }
  // The input at step t of the walk; steps before the clip come from the initial state.
  vfloat input(const ConvArgs& a, int64_t t, int64_t block) const {
    if (t < 0) return before[block][t + a.taps - 1];
    const int64_t position = a.reverse ? a.length - 1 - t : t;
    return load_row(a.x, offset(a.x, position, block), lanes[block]);
  }
  // The position some steps later, whose rows are asked for early.
  int64_t upcoming(const ConvArgs& a, int64_t t) const {
    const int64_t later = t + 8 < a.length ? t + 8 : a.length - 1;
    return a.reverse ? a.length - 1 - later : later;
  }
  vfloat filtered(const ConvArgs& a, int64_t t, int64_t block) const {
    vfloat sum = bias[block];
    for (int64_t k = 0; k < a.taps; ++k) sum += taps[block][k] * input(a, t - a.taps + 1 + k, block);
    return sum;
  }
};

// The usual forward pass, four taps over whole vectors, is cut into pieces of some tokens with all channels:
// rows lie one behind the other in memory, so the wider they are read the better.
constexpr int kPieceTokens = 32;
inline bool usual(const ConvArgs& a) { return a.taps == 4 && a.channels % kLanes == 0 && a.x.dtype == a.y.dtype; }
inline int64_t conv_pieces(const ConvArgs& a) {
  return usual(a) ? a.batch * ceil_div(a.length, kPieceTokens) : conv_items(a);
}

// One piece of one vector of channels, with the last inputs kept in registers.
template <Dtype kType>
inline void slide(const ConvArgs& a, int64_t clip, int64_t channel, int64_t first, int64_t last) {
  const Column<kType> x(a.x, clip, 0, channel), y(a.y, clip, 0, channel);
  const int64_t start = a.reverse ? a.length - 1 : 0, step = a.reverse ? -1 : 1;
  vfloat taps[4], past[3];
  gather_states(a.weight + channel * 4, 4, kLanes, taps);
  if (first > 0) {
    for (int i = 0; i < 3; ++i) past[i] = x.read(start + (first - 3 + i) * step, kLanes);
  } else if (a.initial_state) {
    gather_states(a.initial_state + (clip * a.channels + channel) * 3, 3, kLanes, past);
  } else {
    past[0] = past[1] = past[2] = splat(0.0f);
  }
  const vfloat bias = a.bias ? load_channels(a.bias, channel, kLanes) : splat(0.0f);
  const bool gated = a.silu;
  for (int64_t t = first; t < last; ++t) {
    const int64_t at = start + t * step;
    const vfloat input = x.read(at, kLanes);
    vfloat sum = (taps[0] * past[0] + bias) + taps[1] * past[1];
    sum = (taps[2] * past[2] + sum) + taps[3] * input;
    y.write(at, kLanes, gated ? silu(sum) : sum);
    past[0] = past[1];
    past[1] = past[2];
    past[2] = input;
  }
}

inline void conv_forward(const ConvArgs& a, int64_t index) {
  DenormalsOff quiet;
  if (usual(a)) {
    const int64_t pieces = ceil_div(a.length, kPieceTokens), clip = index / pieces;
    const int64_t first = index % pieces * kPieceTokens;
    const int64_t last = first + kPieceTokens < a.length ? first + kPieceTokens : a.length;
    const auto one = a.x.dtype == kFloat32 ? slide<kFloat32> : slide<kBFloat16>;
    for (int64_t channel = 0; channel < a.channels; channel += kLanes) one(a, clip, channel, first, last);
    return;
  }
  const ConvItem item(a, index);
  for (int64_t t = 0; t < a.length; ++t) {
    const int64_t position = a.reverse ? a.length - 1 - t : t, next = item.upcoming(a, t);
    for (int64_t i = 0; i < item.blocks; ++i) {
      fetch_early(a.x, item.clip, next, 0, item.first + i * kLanes);
      vfloat y = item.filtered(a, t, i);
      if (a.silu) y = silu(y);
      store(a.y.data, a.y.dtype, item.offset(a.y, position, i), item.lanes[i], y);
    }
  }
}

inline void conv_backward(const ConvArgs& a, const ConvGradients& g, int64_t index) {
  DenormalsOff quiet;
  const ConvItem item(a, index);
  const int64_t past = a.taps - 1;
  static_assert((kMaxTaps & (kMaxTaps - 1)) == 0, "the ring below is indexed by masking");
  // Gradients of the last steps before the activation: an input's own gradient needs `taps` of them.
  vfloat ring[kConvBlocks][kMaxTaps], dtaps[kConvBlocks][kMaxTaps], dbias[kConvBlocks];
  for (int64_t i = 0; i < item.blocks; ++i) {
    dbias[i] = splat(0.0f);
    for (int k = 0; k < kMaxTaps; ++k) ring[i][k] = dtaps[i][k] = splat(0.0f);
  }
  for (int64_t t = 0; t < a.length + past; ++t) {
    const int64_t next = item.upcoming(a, t);
    for (int64_t i = 0; i < item.blocks; ++i) {
      const int64_t first = item.first + i * kLanes;
      fetch_early(a.x, item.clip, next, 0, first);
      fetch_early(g.dy, item.clip, next, 0, first);
      fetch_early(g.dx, item.clip, next, 0, first);
      vfloat grad = splat(0.0f);
      if (t < a.length) {
        const int64_t position = a.reverse ? a.length - 1 - t : t;
        grad = load_row(g.dy, item.offset(g.dy, position, i), item.lanes[i]);
        if (a.silu) {
          const vfloat before = item.filtered(a, t, i);
          grad *= silu_slope(before, sigmoid(before));
        }
        for (int64_t k = 0; k < a.taps; ++k) dtaps[i][k] += grad * item.input(a, t - past + k, i);
        dbias[i] += grad;
      }
      ring[i][t & (kMaxTaps - 1)] = grad;
      // Input t - past has now met every output it feeds.
      vfloat dx = splat(0.0f);
      for (int64_t k = 0; k < a.taps; ++k) dx += item.taps[i][k] * ring[i][(t - k) & (kMaxTaps - 1)];
      const int64_t source = t - past;
      if (source >= 0) {
        const int64_t position = a.reverse ? a.length - 1 - source : source;
        store(g.dx.data, g.dx.dtype, item.offset(g.dx, position, i), item.lanes[i], dx);
      } else if (g.dinitial_state) {
        const int64_t channel = item.clip * a.channels + item.first + i * kLanes;
        for (int lane = 0; lane < item.lanes[i]; ++lane)
          g.dinitial_state[(channel + lane) * past + source + past] = dx[lane];
      }
    }
  }
  for (int64_t i = 0; i < item.blocks; ++i) {
    const int64_t channel = item.clip * a.channels + item.first + i * kLanes;
    scatter_states(dtaps[i], a.taps, item.lanes[i], g.dweight + channel * a.taps);
    store(reinterpret_cast<char*>(g.dbias), kFloat32, channel, item.lanes[i], dbias[i]);
  }
}

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
