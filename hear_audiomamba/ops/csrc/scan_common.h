// How a scan is cut into pieces: items of channel blocks for the threads, blocks of tokens for the cache.
#pragma once
#include "vector.h"

namespace audiomamba {
namespace AUDIOMAMBA_ISA {

constexpr int kBlock = 16;         // tokens worked on at once; a checkpoint lies before each block
constexpr int kMaxStates = 256;
constexpr int kBlocksPerItem = 4;  // channel blocks that share one reading of B and C in a backward pass
constexpr int kMostBlocks = 12;    // and at most in a forward pass: the wider a row, the fewer jumps in memory

AUDIOMAMBA_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One piece of work: some channel blocks of one clip, all inside one group of B and C.
struct Item {
  int64_t clip, group, split;
  int64_t first, count;  // channels
  int64_t blocks() const { return ceil_div(count, kLanes); }
  int lanes(int64_t block) const {
    int64_t left = count - block * kLanes;
    return left < kLanes ? int(left) : kLanes;
  }
};

inline int64_t splits_per_group(const ScanArgs& a, int64_t blocks) {
  return ceil_div(a.channels / a.groups, blocks * kLanes);
}
inline int64_t scan_items(const ScanArgs& a, int64_t blocks) {
  return a.batch * a.groups * splits_per_group(a, blocks);
}

// Channel blocks of an item of a forward pass: as many as leave the threads equal work.
inline int64_t forward_blocks(const ScanArgs& a, int64_t threads) {
  int64_t best = kMostBlocks, least = INT64_MAX;
  for (int64_t blocks = kMostBlocks; blocks > 0; --blocks) {
    const int64_t busiest = ceil_div(scan_items(a, blocks), threads) * blocks;
    if (busiest < least) least = busiest, best = blocks;
  }
  return best;
}

inline Item scan_item(const ScanArgs& a, int64_t blocks, int64_t index) {
  int64_t splits = splits_per_group(a, blocks), per_group = a.channels / a.groups;
  Item item;
  item.split = index % splits;
  item.group = index / splits % a.groups;
  item.clip = index / splits / a.groups;
  int64_t start = item.split * blocks * kLanes;
  item.first = item.group * per_group + start;
  int64_t left = per_group - start;
  item.count = left < blocks * kLanes ? left : blocks * kLanes;
  return item;
}

// Positions a direction visits, in order: rows or columns of a map, forwards or backwards.
struct Walk {
  int64_t length, height, width;
  bool by_columns, reverse;
  Walk(const ScanArgs& a, int64_t direction)
      : length(a.length), height(a.height), width(a.width),
        by_columns(direction % 2 == 1), reverse(a.reverse || direction >= 2) {}
  void positions(int64_t start, int count, int64_t* out) const {
    for (int i = 0; i < count; ++i) {
      int64_t t = reverse ? length - 1 - (start + i) : start + i;
      out[i] = by_columns ? t % height * width + t / height : t;
    }
  }
};

// Rows of B or C for one block of tokens, as float32: the tensor's own rows when they are, else copies.
struct Rows {
  const float* row[kBlock];
  float copies[kBlock * kMaxStates];
  void read(const View& v, int64_t clip, int64_t group, int64_t states, const int64_t* positions, int count) {
    for (int i = 0; i < count; ++i) {
      int64_t at = clip * v.batch + positions[i] * v.row + group * v.group;
      if (v.dtype == kFloat32) {
        row[i] = reinterpret_cast<const float*>(v.data) + at;
        continue;
      }
      const uint16_t* from = reinterpret_cast<const uint16_t*>(v.data) + at;
      float* to = copies + i * states;
      for (int64_t n = 0; n < states; ++n) {
        uint32_t bits = uint32_t(from[n]) << 16;
        std::memcpy(to + n, &bits, sizeof bits);
      }
      row[i] = to;
    }
  }
};

// (channels, states) in memory to one vector of channels per state, and back.
inline void gather_states(const float* from, int64_t states, int lanes, vfloat* to) {
  for (int64_t n = 0; n < states; ++n) {
    float part[kLanes] = {};
    for (int i = 0; i < lanes; ++i) part[i] = from[i * states + n];
    to[n] = load(part);
  }
}
inline void scatter_states(const vfloat* from, int64_t states, int lanes, float* to) {
  for (int64_t n = 0; n < states; ++n) {
    float part[kLanes];
    store(part, from[n]);
    for (int i = 0; i < lanes; ++i) to[i * states + n] = part[i];
  }
}

AUDIOMAMBA_INLINE vfloat load_row(const View& v, int64_t at, int lanes) {
  return load(v.data, v.dtype, at, lanes);
}
AUDIOMAMBA_INLINE vfloat load_channels(const float* p, int64_t at, int lanes) {
  return load(reinterpret_cast<const char*>(p), kFloat32, at, lanes);
}

// Ask for a row that will be needed one block of tokens later: rows lie too far apart for the hardware
// to guess. A position past the end is only a wasted hint.
AUDIOMAMBA_INLINE void fetch_early(const View& v, int64_t clip, int64_t position, int64_t group, int64_t channel) {
  const int64_t bytes = v.dtype == kFloat32 ? 4 : 2;
  __builtin_prefetch(v.data + (clip * v.batch + position * v.row + group * v.group + channel) * bytes);
}

// The rows of one tensor for one vector of channels, of a dtype that is known when compiled unless it is kAny.
template <Dtype kType>
struct Column {
  char* first;
  int64_t row, dtype;
  Column(const View& v, int64_t clip, int64_t group, int64_t channel) {
    dtype = kType == kAny ? v.dtype : int64_t(kType);
    const int64_t bytes = dtype == kFloat32 ? 4 : 2;
    first = v.data + (clip * v.batch + group * v.group + channel) * bytes;
    row = v.row * bytes;
  }
  AUDIOMAMBA_INLINE vfloat read(int64_t position, int lanes) const { return load(first + position * row, type(), 0, lanes); }
  AUDIOMAMBA_INLINE void write(int64_t position, int lanes, vfloat value) const {
    store(first + position * row, type(), 0, lanes, value);
  }
  AUDIOMAMBA_INLINE void fetch(int64_t position) const { __builtin_prefetch(first + position * row); }
  AUDIOMAMBA_INLINE int64_t type() const { return kType == kAny ? dtype : int64_t(kType); }
};

// Where the states of `channel` before token block `block` are kept: (clip, direction, block, state, channel),
// so `a.channels` lies between two states.
AUDIOMAMBA_INLINE float* checkpoint(const ScanArgs& a, int64_t clip, int64_t direction, int64_t block,
                                    int64_t channel) {
  const int64_t token_blocks = ceil_div(a.length, kBlock);
  return a.checkpoints + ((clip * a.directions + direction) * token_blocks + block) * a.states * a.channels + channel;
}

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
