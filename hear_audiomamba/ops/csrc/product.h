// Matrix products with weights, over tensors cut into panels of 32 columns: element (row, column) of such a
// tensor lies at panel · rows · 32 + row · 32 + column % 32. So all strides of the innermost loops are known.
#pragma once
#include "vector.h"

namespace audiomamba {
namespace AUDIOMAMBA_ISA {

constexpr int kPanel = 32;
// Rows of one tile. Two vectors of sums for each row, two of weights and one of the inputs are in registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 6;
#endif

// Products in float32. One of a kind: how numbers are stored, and one tile of a product.
struct Float32 {
  typedef float Stored;
  typedef FinePower Power;  // for the decays of the scan
  static constexpr int kRows = kTileRows;
  struct Session {};

  static vfloat read(const float* from) { return load(from); }
  static void write(float* to, vfloat value) { store(to, value); }

  // `a` has inner / 32 panels, `a_panel` numbers apart; `weights` are (inner, 32), and so `sums` (kRows, 32).
  static void multiply(const float* a, int64_t a_panel, int64_t inner, const float* weights, float* sums) {
    for (int half = 0; half < kPanel; half += 2 * kLanes) {
      vfloat sum[kRows][2] = {};
      const float *x = a, *w = weights + half;
      for (int64_t k = 0; k < inner; k += kPanel, x += a_panel) {
        for (int j = 0; j < kPanel; ++j, w += kPanel) {
          const vfloat low = load(w), high = load(w + kLanes);
#pragma GCC unroll 16
          for (int i = 0; i < kRows; ++i) {
            const vfloat one = splat(x[i * kPanel + j]);
            sum[i][0] += one * low;
            sum[i][1] += one * high;
          }
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        store(sums + i * kPanel + half, sum[i][0]);
        store(sums + i * kPanel + half + kLanes, sum[i][1]);
      }
    }
  }
};

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
