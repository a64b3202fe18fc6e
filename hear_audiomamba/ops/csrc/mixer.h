// A whole Mamba mixer without gradients: in_proj, convolution, x_proj, dt_proj, scan, gate and out_proj; or a block,
// which is a norm, a mixer and a sum. It runs over a sequence piece by piece, so that what lies between the products
// stays in the cache.
#pragma once
#include <cmath>
#include <memory>

#include "amx.h"
#include "product.h"
#include "scan_forward.h"

namespace audiomamba {
namespace AUDIOMAMBA_ISA {

constexpr int kTaps = 4;
// Tokens of a piece, a multiple of every tile's rows: for a thread with a clip of its own, and for all together.
constexpr int64_t kPieceOfOne = 96, kPieceOfTeam = 288;
constexpr int kMostRank = 256;

// The share of `part` in `count` things, in steps of `step`.
struct Share {
  int64_t first, last;
  Share(int64_t count, int64_t step, int64_t part, int64_t parts) {
    const int64_t steps = ceil_div(count, step);
    first = steps * part / parts * step;
    last = steps * (part + 1) / parts * step;
    if (last > count) last = count;
  }
};

// One clip on its way through a mixer. Tensors named in capital letters in the comments are (panels, rows, 32).
template <class Kind>
class Mixer {
 public:
  typedef typename Kind::Stored Stored;

  Mixer(const MixerArgs& args, int64_t clip, const Team& team) : a_(args), clip_(clip), team_(team) {
    const int64_t piece = team.threads > 1 ? kPieceOfTeam : kPieceOfOne;
    const int64_t whole = ceil_div(a_.length, kPieceOfOne) * kPieceOfOne;
    rows_ = whole < piece ? whole : piece;
    pieces_ = ceil_div(a_.length, rows_);
    projected_ = ceil_div(a_.rank + 2 * a_.states, kPanel) * kPanel;
    inner_ = rows_ * a_.channels;
    const int64_t kept = a_.directions > 1 ? pieces_ : 1, carried = a_.channels * (kTaps - 1 + a_.states);
    const int64_t floats = 2 * kept * inner_ + rows_ * projected_ + carried;
    const int64_t stored = rows_ * a_.width + inner_ + (a_.directions > 1 ? kept * inner_ : 0);
    memory_.reset(new char[floats * sizeof(float) + stored * sizeof(Stored) + 64]);
    float* at = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) / 64 * 64);
    first_x_ = at;
    first_z_ = first_x_ + kept * inner_;
    weights_ = first_z_ + kept * inner_;
    past_ = weights_ + rows_ * projected_;
    states_ = past_ + a_.channels * (kTaps - 1);
    input_ = reinterpret_cast<Stored*>(past_ + carried);
    u_ = input_ + rows_ * a_.width;
    first_y_ = a_.directions > 1 ? u_ + inner_ : u_;
  }

  // The second direction starts where the first one ends, and reads again what the first one kept of each piece.
  void run() {
    for (int64_t way = 0; way < a_.directions; ++way) {
      for (int64_t i = 0; i < pieces_; ++i) {
        const bool fresh = i == 0;
        go_to(backwards(way) ? pieces_ - 1 - i : i);
        if (team_.threads > 1 && way == 0) share([=](int64_t part) { read(part); });
        share([=](int64_t part) { enter(part, way, fresh); });
        share([=](int64_t part) { project(part, way); });
        share([=](int64_t part) { scan(part, way, fresh); });
        if (way == a_.directions - 1) share([=](int64_t part) { leave(part); });
      }
    }
  }

 private:
  void go_to(int64_t piece) {
    start_ = piece * rows_;
    count_ = a_.length - start_ < rows_ ? a_.length - start_ : rows_;
    tiles_ = ceil_div(count_, Kind::kRows) * Kind::kRows;
    const int64_t kept = a_.directions > 1 ? piece * inner_ : 0;
    x_ = first_x_ + kept;
    z_ = first_z_ + kept;
    y_ = first_y_ + kept;
  }
  template <class Work>
  void share(const Work& work) {
    if (team_.threads == 1) return work(0);
    team_.run(team_.threads, [](const void* self, int64_t part) { (*static_cast<const Work*>(self))(part); }, &work);
  }
  int64_t at(int64_t channel) const { return channel / kPanel * rows_ * kPanel + channel % kPanel; }
  bool backwards(int64_t way) const { return (a_.reverse != 0) != (way != 0); }

  template <class T>
  T* row(const View& view, int64_t t) const {
    return reinterpret_cast<T*>(view.data) + clip_ * view.batch + (start_ + t) * view.row;
  }

  // Bring the piece's rows of x, normalised, into panels.
  void read(int64_t part) {
    DenormalsOff quiet;
    const Share rows(count_, 1, part, team_.threads);
    for (int64_t t = rows.first; t < rows.last; ++t) {
      if (a_.norm != kNoNorm)
        normalize(row<const float>(a_.x, t), input_ + t * kPanel);
      else
        for (int64_t k = 0; k < a_.width; k += kPanel)
          std::memcpy(input_ + at(k) + t * kPanel, row<const Stored>(a_.x, t) + k, kPanel * sizeof(Stored));
    }
  }
  void normalize(const float* x, Stored* to) {
    const vfloat mean = splat(a_.norm == kLayerNorm ? mean_of(x, splat(0.0f), [](vfloat v) { return v; }) : 0.0f);
    const float square = mean_of(x, mean, [](vfloat v) { return v * v; });
    const vfloat factor = splat(1.0f / std::sqrt(square + float(a_.eps)));
    for (int64_t k = 0; k < a_.width; k += kLanes) {
      vfloat value = (load(x + k) - mean) * factor;
      if (a_.norm_weight) value *= load(a_.norm_weight + k);
      if (a_.norm_bias) value += load(a_.norm_bias + k);
      Kind::write(to + at(k), value);
    }
  }
  template <class Of>
  float mean_of(const float* x, vfloat centre, const Of& of) const {
    vfloat sums = splat(0.0f);
    for (int64_t k = 0; k < a_.width; k += kLanes) sums += of(load(x + k) - centre);
    float part[kLanes];
    store(part, sums);
    for (int half = kLanes / 2; half > 0; half /= 2)
      for (int lane = 0; lane < half; ++lane) part[lane] += part[lane + half];
    return part[0] / float(a_.width);
  }

  // in_proj and the convolution, for a share of the channels.
  void enter(int64_t part, int64_t way, bool fresh) {
    DenormalsOff quiet;
    if (team_.threads == 1 && way == 0) read(0);
    const Share own(a_.channels, kPanel, part, team_.threads);
    [[maybe_unused]] const typename Kind::Session session;
    for (int64_t channel = own.first; channel < own.last; channel += kPanel) {
      if (way == 0) {
        multiply_into(channel, x_ + at(channel));
        multiply_into(a_.channels + channel, z_ + at(channel));
      }
      for (int64_t c = channel; c < channel + kPanel; c += kLanes) convolve(c, a_.ways[way], backwards(way), fresh);
    }
  }
  void multiply_into(int64_t column, float* to) {
    const Stored* weights = static_cast<const Stored*>(a_.in_proj) + column * a_.width;
    for (int64_t t = 0; t < tiles_; t += Kind::kRows)
      Kind::multiply(input_ + t * kPanel, rows_ * kPanel, a_.width, weights, to + t * kPanel);
  }
  void convolve(int64_t channel, const MixerDirection& way, bool reverse, bool fresh) {
    const float* x = x_ + at(channel);
    Stored* u = u_ + at(channel);
    vfloat taps[kTaps], past[kTaps - 1];
    for (int k = 0; k < kTaps; ++k) taps[k] = load(way.taps + k * a_.channels + channel);
    for (int k = 0; k < kTaps - 1; ++k) past[k] = fresh ? splat(0.0f) : load(past_ + k * a_.channels + channel);
    const vfloat bias = load(way.conv_bias + channel);
    for (int64_t t = 0; t < count_; ++t) {
      const int64_t row = (reverse ? count_ - 1 - t : t) * kPanel;
      const vfloat input = load(x + row);
      vfloat sum = (taps[0] * past[0] + bias) + taps[1] * past[1];
      sum = (taps[2] * past[2] + sum) + taps[3] * input;
      Kind::write(u + row, silu(sum));
      past[0] = past[1];
      past[1] = past[2];
      past[2] = input;
    }
    for (int k = 0; k < kTaps - 1; ++k) store(past_ + k * a_.channels + channel, past[k]);
  }

  // x_proj, for a share of the tokens.
  void project(int64_t part, int64_t way) {
    DenormalsOff quiet;
    const Share own(tiles_, Kind::kRows, part, team_.threads);
    [[maybe_unused]] const typename Kind::Session session;
    const Stored* weights = static_cast<const Stored*>(a_.ways[way].x_proj);
    float tile[Kind::kRows * kPanel];
    for (int64_t t = own.first; t < own.last; t += Kind::kRows)
      for (int64_t column = 0; column < projected_; column += kPanel) {
        Kind::multiply(u_ + t * kPanel, rows_ * kPanel, a_.channels, weights + column * a_.channels, tile);
        for (int i = 0; i < Kind::kRows; ++i)
          std::memcpy(weights_ + (t + i) * projected_ + column, tile + i * kPanel, sizeof(float) * kPanel);
      }
  }

  // dt_proj, the scan and the gate, for a share of the channels.
  void scan(int64_t part, int64_t way, bool fresh) {
    DenormalsOff quiet;
    const Share own(a_.channels, kLanes, part, team_.threads);
    for (int64_t channel = own.first; channel < own.last; channel += kLanes) {
      vfloat decay[kMaxStates], states[kMaxStates], steps[kMostRank];
      for (int64_t n = 0; n < a_.states; ++n) {
        decay[n] = load(a_.ways[way].decay + n * a_.channels + channel);
        states[n] = fresh ? splat(0.0f) : load(states_ + n * a_.channels + channel);
      }
      for (int64_t r = 0; r < a_.rank; ++r) steps[r] = load(a_.ways[way].dt_proj + r * a_.channels + channel);
      for (int64_t start = 0; start < count_; start += kBlock)
        scan_tokens(start, channel, way, decay, states, steps);
      for (int64_t n = 0; n < a_.states; ++n) store(states_ + n * a_.channels + channel, states[n]);
    }
  }
  void scan_tokens(int64_t start, int64_t channel, int64_t way, const vfloat* decay, vfloat* states,
                   const vfloat* steps) {
    const int count = int(count_ - start < kBlock ? count_ - start : kBlock);
    const vfloat bias = load(a_.ways[way].dt_bias + channel), skip = load(a_.ways[way].D + channel);
    const float *B[kBlock], *C[kBlock];
    int64_t rows[kBlock];
    ForwardTokens k;
    for (int t = 0; t < count; ++t) {
      const int64_t row = backwards(way) ? count_ - 1 - (start + t) : start + t;
      const float* weights = weights_ + row * projected_;
      B[t] = weights + a_.rank;
      C[t] = B[t] + a_.states;
      rows[t] = at(channel) + row * kPanel;
      vfloat step = bias;
      for (int64_t r = 0; r < a_.rank; ++r) step += splat(weights[r]) * steps[r];
      const vfloat u = Kind::read(u_ + rows[t]);
      k.delta[t] = softplus(step);
      k.weighted[t] = k.delta[t] * u;
      k.y[t] = skip * u;
    }
    advance_all<typename Kind::Power>(count, a_.states, decay, states, k.delta, k.weighted, B, C, k.y);
    for (int t = 0; t < count; ++t) {
      vfloat y = k.y[t] * silu(load(z_ + rows[t]));
      if (way != 0) y += Kind::read(y_ + rows[t]);
      Kind::write(y_ + rows[t], y);
    }
  }

  // out_proj, for a share of the tokens.
  void leave(int64_t part) {
    DenormalsOff quiet;
    const Share own(tiles_, Kind::kRows, part, team_.threads);
    [[maybe_unused]] const typename Kind::Session session;
    const Stored* weights = static_cast<const Stored*>(a_.out_proj);
    const vfloat scale = splat(float(a_.scale));
    float tile[Kind::kRows * kPanel];
    for (int64_t t = own.first; t < own.last; t += Kind::kRows)
      for (int64_t column = 0; column < a_.width; column += kPanel) {
        Kind::multiply(y_ + t * kPanel, rows_ * kPanel, a_.channels, weights + column * a_.channels, tile);
        for (int64_t i = 0; i < Kind::kRows && t + i < count_; ++i)
          for (int j = 0; j < kPanel; j += kLanes) {
            const vfloat mixed = load(tile + i * kPanel + j) * scale;
            const int64_t k = column + j;
            if (a_.norm == kNoNorm)
              Kind::write(row<Stored>(a_.y, t + i) + k, mixed);
            else
              store(row<float>(a_.y, t + i) + k, load(row<const float>(a_.x, t + i) + k) + mixed);
          }
      }
  }

  const MixerArgs& a_;
  const int64_t clip_;
  const Team team_;
  int64_t pieces_, rows_;          // of the sequence; rows in memory of one piece of a tensor
  int64_t projected_, inner_;      // columns of x_proj's result; numbers of one piece of X
  int64_t start_, count_, tiles_;  // of the piece at hand: first token, tokens, and tokens in whole tiles
  std::unique_ptr<char[]> memory_;
  float *x_, *z_;                  // X and Z (channels) of the piece at hand
  Stored* y_;                      // Y (channels) of the piece at hand; U where there is one direction
  float *first_x_, *first_z_;      // the same of the first piece; two directions keep all pieces, one direction one
  Stored* first_y_;
  Stored *input_, *u_;             // the rows to mix (width), and U (channels)
  float* weights_;                 // (rows, projected): dt, B and C
  float *past_, *states_;          // (3, channels) and (states, channels), carried from piece to piece
};

inline bool mixes(int64_t dtype) { return dtype == kFloat32 || (dtype == kBFloat16 && amx::usable()); }

inline void mix(const MixerArgs& a, int64_t clip, const Team& team) {
  if (a.dtype == kFloat32)
    Mixer<Float32>(a, clip, team).run();
  else
    Mixer<amx::BFloat16>(a, clip, team).run();
}

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
