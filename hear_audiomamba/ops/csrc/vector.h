// Vectors of floats in the compiler's own vector types, so that one source serves every instruction set.
#pragma once
#include <cstdint>
#include <cstring>

#include "interface.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace audiomamba {
namespace AUDIOMAMBA_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float vfloat __attribute__((vector_size(4 * kLanes)));
typedef int32_t vint __attribute__((vector_size(4 * kLanes)));
typedef uint32_t vuint __attribute__((vector_size(4 * kLanes)));
typedef uint16_t vhalf __attribute__((vector_size(2 * kLanes)));

#define AUDIOMAMBA_INLINE inline __attribute__((always_inline))

AUDIOMAMBA_INLINE vfloat splat(float value) { return value - vfloat{}; }
AUDIOMAMBA_INLINE vfloat bits_to_float(vint bits) { return (vfloat)bits; }

// A NaN passes through: each of these gives its second operand when the comparison is not true.
#if defined(__AVX512F__)
AUDIOMAMBA_INLINE vfloat clamp(vfloat a, float low, float high) {
  return _mm512_min_ps(splat(high), _mm512_max_ps(splat(low), a));
}
#elif defined(__AVX2__)
AUDIOMAMBA_INLINE vfloat clamp(vfloat a, float low, float high) {
  return _mm256_min_ps(splat(high), _mm256_max_ps(splat(low), a));
}
#else
AUDIOMAMBA_INLINE vfloat clamp(vfloat a, float low, float high) {
  a = splat(low) > a ? splat(low) : a;
  return splat(high) < a ? splat(high) : a;
}
#endif

// 2^f for f in [-1/2, 1/2] as polynomials, minimax, highest power first. The constant term is exactly 1, so that decays
// next to 1 keep their distance from 1.
struct FinePower {  // relative error 9e-8 before rounding
  static constexpr float kTerms[] = {1.326472037e-03f, 9.671513022e-03f, 5.550733778e-02f,
                                     2.402224208e-01f, 6.931469776e-01f, 1.0f};
};
struct CoarsePower {  // relative error 1.0e-4, a fortieth of a rounding to bfloat16; 6e-4 in the distance from 1
  static constexpr float kTerms[] = {5.500905778e-02f, 2.422109750e-01f, 6.932828980e-01f, 1.0f};
};

constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits

AUDIOMAMBA_INLINE vfloat round_nearest(vfloat t) { return (t + splat(kRound)) - splat(kRound); }

#if defined(__AVX512F__)

AUDIOMAMBA_INLINE vfloat scale_by_power(vfloat p, vfloat n) { return _mm512_scalef_ps(p, n); }
AUDIOMAMBA_INLINE vfloat within_exponents(vfloat t) { return t; }  // the instruction above sees to it

#else

// 2^n by the exponent bits; n = -127 gives 0 and n = 128 infinity.
AUDIOMAMBA_INLINE vfloat scale_by_power(vfloat p, vfloat n) {
  vint shifted = (vint)(n + splat(kRound + 127.0f)) << 23;
  return p * bits_to_float(shifted);
}
AUDIOMAMBA_INLINE vfloat within_exponents(vfloat t) { return clamp(t, -127.0f, 128.0f); }

#endif

// 2^(a b[k]) for K products at once, step by step for all of them: a processor looks ahead over some hundred
// instructions, too few for chains as long as these when they come one behind the other. Where the exponent
// need not be held in bounds, the product is never rounded; right for |a b| up to 1e15.
template <int K, class Power>
AUDIOMAMBA_INLINE void exp2_products(vfloat a, const vfloat* b, vfloat* out) {
  constexpr int kTerms = sizeof Power::kTerms / sizeof(float);
  vfloat n[K], f[K];
#if defined(__AVX512F__)
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) n[k] = a * b[k] + splat(kRound);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) n[k] = n[k] - splat(kRound);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) f[k] = a * b[k] - n[k];
#else
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) f[k] = within_exponents(a * b[k]);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) n[k] = round_nearest(f[k]);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) f[k] = f[k] - n[k];
#endif
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) out[k] = splat(Power::kTerms[0]) * f[k] + splat(Power::kTerms[1]);
#pragma GCC unroll 8
  for (int i = 2; i < kTerms; ++i)
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out[k] = out[k] * f[k] + splat(Power::kTerms[i]);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) out[k] = scale_by_power(out[k], n[k]);
}
AUDIOMAMBA_INLINE vfloat exp2_product(vfloat a, vfloat b) {
  vfloat out;
  exp2_products<1, FinePower>(a, &b, &out);
  return out;
}

constexpr float kLog2e = 1.44269504f;
constexpr float kLog2eRest = 1.92596300e-08f;  // log2(e) - kLog2e

// FinePower in fewer steps one after another, for code that waits for it.
AUDIOMAMBA_INLINE vfloat exp2_fraction(vfloat f) {
  constexpr const float* c = FinePower::kTerms;
  const vfloat f2 = f * f;
  const vfloat high = splat(c[0]) * f + splat(c[1]);
  const vfloat middle = splat(c[2]) * f + splat(c[3]);
  const vfloat low = splat(c[4]) * f + splat(c[5]);
  return (high * f2 + middle) * f2 + low;
}

// e^x, held between 2^-126 and 2^126 so that its reciprocal exists. The product x log2(e) is kept in two
// parts: with a fused multiply-add the relative error does not grow with |x|, without one by |x| 2^-24.
AUDIOMAMBA_INLINE vfloat exp(vfloat x) {
  x = clamp(x, -126.0f / kLog2e, 126.0f / kLog2e);
  vfloat n = (x * splat(kLog2e) + splat(kRound)) - splat(kRound);
  vfloat f = x * splat(kLog2e) - n;
  f = x * splat(kLog2eRest) + f;
  return scale_by_power(exp2_fraction(f), n);
}

// log(1 + e) / e for e in [0, 1], relative error 3e-8 before rounding; exactly 1 at 0.
AUDIOMAMBA_INLINE vfloat log1p_ratio(vfloat e) {
  const vfloat e2 = e * e, e4 = e2 * e2;
  const vfloat a = splat(-4.999964802e-01f) * e + splat(1.0f);
  const vfloat b = splat(-2.485718128e-01f) * e + splat(3.332132452e-01f);
  const vfloat c = splat(-1.375395419e-01f) * e + splat(1.915372712e-01f);
  const vfloat d = splat(-3.006678080e-02f) * e + splat(7.920624965e-02f);
  const vfloat low = b * e2 + a;
  const vfloat high = (splat(5.365053118e-03f) * e2 + d) * e2 + c;
  return high * e4 + low;
}

#if defined(__AVX512F__)
// 1/x for normal x: the hardware's 14 bits and one Newton step, cheaper than a division.
AUDIOMAMBA_INLINE vfloat reciprocal(vfloat x) {
  vfloat r = _mm512_rcp14_ps(x);
  return r + r * (splat(1.0f) - x * r);
}
#else
AUDIOMAMBA_INLINE vfloat reciprocal(vfloat x) { return splat(1.0f) / x; }
#endif

// log(1 + e^x) and its derivative; above 20 it is x to the last bit, as in the published code.
AUDIOMAMBA_INLINE vfloat softplus(vfloat x, vfloat* slope = nullptr) {
  const vint negative = x < splat(0.0f);
  const vfloat e = exp(negative ? x : -x);
  if (slope) {
    const vfloat r = reciprocal(splat(1.0f) + e);
    *slope = negative ? e * r : r;
  }
  return e * log1p_ratio(e) + (negative ? splat(0.0f) : x);
}

AUDIOMAMBA_INLINE vfloat sigmoid(vfloat x) { return reciprocal(splat(1.0f) + exp(-x)); }
AUDIOMAMBA_INLINE vfloat silu(vfloat x) { return x * sigmoid(x); }
// Derivative of silu, given s = sigmoid(x).
AUDIOMAMBA_INLINE vfloat silu_slope(vfloat x, vfloat s) { return s + x * s * (splat(1.0f) - s); }

AUDIOMAMBA_INLINE vfloat load(const float* p) {
  vfloat v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
AUDIOMAMBA_INLINE void store(float* p, vfloat v) { std::memcpy(p, &v, sizeof v); }

AUDIOMAMBA_INLINE vfloat widen(vhalf h) {
  return (vfloat)(__builtin_convertvector(h, vuint) << 16);
}
// Round to nearest even; a NaN stays one because its quiet bit survives.
AUDIOMAMBA_INLINE vhalf narrow(vfloat v) {
  vuint bits = (vuint)v;
  vuint rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  vuint nan = (bits >> 16) | 0x40u;
  return __builtin_convertvector(v == v ? rounded : nan, vhalf);
}

// The first `lanes` channels at element offset `at`; the other lanes are zero.
AUDIOMAMBA_INLINE vfloat load(const char* data, int64_t dtype, int64_t at, int lanes) {
  if (dtype == kFloat32) {
    const float* p = reinterpret_cast<const float*>(data) + at;
    if (__builtin_expect(lanes == kLanes, 1)) return load(p);
    float part[kLanes] = {};
    for (int i = 0; i < lanes; ++i) part[i] = p[i];
    return load(part);
  }
  const uint16_t* p = reinterpret_cast<const uint16_t*>(data) + at;
  uint16_t part[kLanes] = {};
  if (__builtin_expect(lanes == kLanes, 1)) {
    std::memcpy(part, p, sizeof part);
  } else {
    for (int i = 0; i < lanes; ++i) part[i] = p[i];
  }
  vhalf h;
  std::memcpy(&h, part, sizeof h);
  return widen(h);
}

AUDIOMAMBA_INLINE void store(char* data, int64_t dtype, int64_t at, int lanes, vfloat v) {
  if (dtype == kFloat32) {
    float* p = reinterpret_cast<float*>(data) + at;
    if (__builtin_expect(lanes == kLanes, 1)) return store(p, v);
    float part[kLanes];
    store(part, v);
    for (int i = 0; i < lanes; ++i) p[i] = part[i];
    return;
  }
  uint16_t* p = reinterpret_cast<uint16_t*>(data) + at;
  vhalf h = narrow(v);
  if (__builtin_expect(lanes == kLanes, 1)) {
    std::memcpy(p, &h, sizeof h);
    return;
  }
  uint16_t part[kLanes];
  std::memcpy(part, &h, sizeof h);
  for (int i = 0; i < lanes; ++i) p[i] = part[i];
}

template <int... I>
struct Lanes {};
template <int N, int... I>
struct CountTo : CountTo<N - 1, N - 1, I...> {};
template <int... I>
struct CountTo<0, I...> {
  typedef Lanes<I...> type;
};
template <int... I>
AUDIOMAMBA_INLINE vfloat add_neighbours(vfloat a, vfloat b, Lanes<I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...) + __builtin_shufflevector(a, b, (2 * I + 1)...);
}
// The sums over the lanes of kLanes vectors, as one vector in their order. Overwrites its argument.
AUDIOMAMBA_INLINE vfloat sum_each(vfloat* v) {
  for (int left = kLanes; left > 1; left /= 2)
    for (int i = 0; i < left / 2; ++i)
      v[i] = add_neighbours(v[2 * i], v[2 * i + 1], CountTo<kLanes>::type());
  return v[0];
}

// States that fade towards zero would become denormal numbers and slow every later step down.
class DenormalsOff {
 public:
#if defined(__SSE__)
  DenormalsOff() : saved_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(saved_ | 0x8040); }
  ~DenormalsOff() { __builtin_ia32_ldmxcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  DenormalsOff() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (uint64_t{1} << 24)));
  }
  ~DenormalsOff() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  uint64_t saved_;
#else
  DenormalsOff() {}
#endif
};

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
