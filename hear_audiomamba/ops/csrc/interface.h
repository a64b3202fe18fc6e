// What Python hands to the kernels: plain structs of pointers, sizes and strides (see native.py).
#pragma once
#include <cstdint>

namespace audiomamba {

// Grows by one when anything below changes, or a function of library.cpp; native.py asks for the same number.
constexpr int64_t kInterface = 3;

// kAny is for code that asks the tensor.
enum Dtype : int64_t { kFloat32 = 0, kBFloat16 = 1, kAny = 2 };

// A tensor whose last dimension is contiguous. Strides count elements.
struct View {
  char* data;      // null when the argument was left out
  int64_t dtype;   // a Dtype
  int64_t batch;   // stride between clips
  int64_t row;     // stride between positions
  int64_t group;   // stride between groups of B and C, or between scan directions
};

struct ScanArgs {
  int64_t batch, length, channels, states;
  int64_t groups;      // groups of B and C along the channels (1-d scans only)
  int64_t directions;  // 1, or 4 for a scan over a map of height x width
  int64_t height, width;
  int64_t reverse, softplus;
  View u, delta, z, B, C, y;
  const float* A;              // (directions * channels, states)
  const float* D;              // (directions * channels) or null
  const float* delta_bias;     // (directions * channels) or null
  const float* initial_state;  // (batch, channels, states) or null
  float* last_state;           // (batch, directions * channels, states) or null
  float* checkpoints;          // (batch, directions, blocks of tokens, states, channels) or null
};

struct ScanGradients {
  View dy, du, ddelta, dz, dB, dC;  // dB and dC: float32, dense, one slab per split of the channels
  const float* dlast_state;         // (batch, channels, states) or null
  float* dA;                        // (batch, directions * channels, states)
  float* dD;                        // (batch, directions * channels)
  float* ddelta_bias;               // (batch, directions * channels)
  float* dinitial_state;            // (batch, channels, states) or null
  int64_t split_stride;             // elements between two slabs of dB, and of dC
};

struct ConvArgs {
  int64_t batch, length, channels, taps;
  int64_t reverse, silu;
  View x, y;
  const float* weight;         // (channels, taps)
  const float* bias;           // (channels) or null
  const float* initial_state;  // (batch, channels, taps - 1) or null
};

struct ConvGradients {
  View dy, dx;
  float* dweight;         // (batch, channels, taps)
  float* dbias;           // (batch, channels)
  float* dinitial_state;  // (batch, channels, taps - 1) or null
};

// One direction of a mixer. Matrices are laid out for the kernel: taps (4, channels), dt_proj (rank, channels),
// decay (states, channels) with log2(e) as a factor; x_proj in panels (see product.h), its columns dt, B and C.
struct MixerDirection {
  const float *taps, *conv_bias, *dt_proj, *dt_bias, *decay, *D;
  const void* x_proj;
};

// Without a norm, x and y are of the products' dtype, and y is what is mixed of x times `scale`. With one, both are
// float32: what is mixed of the normalised x is added to x.
enum Norm : int64_t { kNoNorm = 0, kLayerNorm = 1, kRmsNorm = 2 };

struct MixerArgs {
  int64_t batch, length, width, channels, states, rank;
  int64_t dtype;       // of the products
  int64_t norm;        // a Norm over the width
  int64_t reverse;     // of the first direction; the second one runs against it
  int64_t directions;  // 1 or 2
  double eps, scale;
  const float *norm_weight, *norm_bias;  // null where there is none
  View x, y;
  const void *in_proj, *out_proj;  // in panels
  MixerDirection ways[2];  // the second one is empty where there is one direction
};

// The threads that share one clip: `run` calls work(self, part) for each part, on a thread of its own.
struct Team {
  int64_t threads;
  void (*run)(int64_t threads, void (*work)(const void* self, int64_t part), const void* self);
};

// One entry per instruction set: how many independent items a call has, and functions that do one of them.
struct Kernels {
  const char* name;
  int64_t channels_per_item;
  int64_t (*forward_blocks)(const ScanArgs&, int64_t threads);
  int64_t (*scan_items)(const ScanArgs&, int64_t blocks);
  void (*scan_forward)(const ScanArgs&, int64_t blocks, int64_t item);
  int64_t (*backward_items)(const ScanArgs&);
  void (*scan_backward)(const ScanArgs&, const ScanGradients&, int64_t item);
  int64_t (*conv_pieces)(const ConvArgs&);
  void (*conv_forward)(const ConvArgs&, int64_t item);
  int64_t (*conv_items)(const ConvArgs&);
  void (*conv_backward)(const ConvArgs&, const ConvGradients&, int64_t item);
  void (*mix)(const MixerArgs&, int64_t clip, const Team&);
  bool (*mixes)(int64_t dtype);
};

}  // namespace audiomamba
