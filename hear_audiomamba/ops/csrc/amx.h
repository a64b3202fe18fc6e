// Matrix products of bfloat16 numbers on the matrix units of newer Intel processors (AMX), under Linux.
#pragma once
#include "product.h"

#if defined(__AVX512F__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define AUDIOMAMBA_AMX __attribute__((target("amx-tile,amx-bf16")))
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace audiomamba {
namespace AUDIOMAMBA_ISA {
namespace amx {

#if defined(AUDIOMAMBA_AMX)

// Whether the processor has the units and the kernel lets this process use them; asks for the permission.
inline bool usable() {
  static const bool answer = [] {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (!(d >> 22 & 1) || !(d >> 24 & 1)) return false;  // amx-bf16, amx-tile
    constexpr long kAskPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kAskPermission, kTileData) == 0;
  }();
  return answer;
}

// What the processor is told about its tiles: eight of 16 rows of 64 bytes.
struct Tiles {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static const Tiles kTiles;

// Tiles 0 to 3 are the sums of 2 x 2 tiles of 16 rows and 16 columns, 4 and 5 inputs, 6 and 7 weights.
struct BFloat16 {
  typedef uint16_t Stored;
  typedef CoarsePower Power;
  static constexpr int kRows = 32;

  // The thread's tiles.
  struct Session {
    AUDIOMAMBA_AMX Session() { _tile_loadconfig(&kTiles); }
    AUDIOMAMBA_AMX ~Session() { _tile_release(); }
  };

  static vfloat read(const Stored* from) {
    vhalf half;
    std::memcpy(&half, from, sizeof half);
    return widen(half);
  }
  static void write(Stored* to, vfloat value) {
    const vhalf half = narrow(value);
    std::memcpy(to, &half, sizeof half);
  }

  // As `Float32::multiply`, with weights (inner / 32, 2, 16, 16, 2): of 32 inputs and 16 of the columns, pairs of
  // inputs side by side.
  AUDIOMAMBA_AMX static void multiply(const Stored* a, int64_t a_panel, int64_t inner, const Stored* weights,
                                      float* sums) {
    constexpr int kHalf = 16, kTile = kHalf * kPanel;
    asm volatile("" ::: "memory");  // compilers do not know that a tile reads memory
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < inner; k += kPanel, a += a_panel, weights += 2 * kTile) {
      _tile_loadd(4, a, 2 * kPanel);
      _tile_loadd(6, weights, 2 * kPanel);
      _tile_loadd(7, weights + kTile, 2 * kPanel);
      _tile_loadd(5, a + kTile, 2 * kPanel);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 4 * kPanel);
    _tile_stored(1, sums + kHalf, 4 * kPanel);
    _tile_stored(2, sums + kTile, 4 * kPanel);
    _tile_stored(3, sums + kTile + kHalf, 4 * kPanel);
  }
};

#else

inline bool usable() { return false; }
typedef Float32 BFloat16;

#endif

}  // namespace amx
}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
