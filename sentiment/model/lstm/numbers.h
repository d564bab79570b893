// Vectors of float32 numbers, as wide as the processor has them, and what makes an LSTM's gates of them.

#pragma once

#include <c10/util/BFloat16.h>
#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <type_traits>

namespace {

using c10::BFloat16;

#ifdef __AVX512DQ__
using Floats = __m512;  // below, limits come first, which keeps what is no number
inline Floats clamp(Floats x, float most) { return _mm512_max_ps(Floats{} - most, _mm512_min_ps(Floats{} + most, x)); }
inline Floats fraction(Floats x) { return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF); }
inline Floats scale(Floats p, Floats y) { return _mm512_scalef_ps(p, y); }  // p times 2^floor(y)
template <typename kept>
inline Floats reciprocal(Floats x) {  // of a finite x; faster than a division
  const Floats guess = _mm512_rcp14_ps(x);
  if constexpr (std::is_same_v<kept, BFloat16>) return guess;
  return guess * (2.f - x * guess);  // Newton's step doubles its 14 bits
}
#else
using Floats = __m256;
inline Floats clamp(Floats x, float most) { return _mm256_max_ps(Floats{} - most, _mm256_min_ps(Floats{} + most, x)); }
inline Floats fraction(Floats x) { return x - _mm256_floor_ps(x); }
inline Floats scale(Floats p, Floats y) {
  return p * std::bit_cast<Floats>((std::bit_cast<__v8su>(_mm256_cvtps_epi32(_mm256_floor_ps(y))) + 127) << 23);
}
template <typename>
inline Floats reciprocal(Floats x) {
  return 1.f / x;
}
#endif
constexpr int64_t LANES = sizeof(Floats) / sizeof(float);
using Unaligned [[gnu::vector_size(LANES * 4), gnu::aligned(4), gnu::may_alias]] = float;
using Bits [[gnu::vector_size(LANES * 4)]] = uint32_t;
using Halves [[gnu::vector_size(LANES * 2), gnu::aligned(2), gnu::may_alias]] = uint16_t;

inline Floats load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline Floats load(const BFloat16* from) {
#ifdef __AVX512DQ__
  return std::bit_cast<Floats>(_mm512_cvtepu16_epi32(_mm256_loadu_epi16(from)) << 16);
#else
  return std::bit_cast<Floats>(__builtin_convertvector(*reinterpret_cast<const Halves*>(from), Bits) << 16);
#endif
}
inline void store(Floats values, float* to) { *reinterpret_cast<Unaligned*>(to) = values; }
inline void store(Floats values, BFloat16* to) {  // to nearest, ties to even
#ifdef __AVX512BF16__
  *reinterpret_cast<Halves*>(to) = std::bit_cast<Halves>(_mm512_cvtneps_pbh(values));
#else
  const auto bits = std::bit_cast<Bits>(values);
  *reinterpret_cast<Halves*>(to) = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Halves);
#endif
}

// Stores what is not read again soon without fetching its line into the caches first.
inline void stream(Floats values, float* to) {
#ifdef __AVX512DQ__
  _mm512_stream_ps(to, values);
#else
  _mm256_stream_ps(to, values);
#endif
}
inline void stream(Floats values, BFloat16* to) {
  alignas(sizeof(Floats) / 2) BFloat16 rounded[LANES];
  store(values, rounded);
#ifdef __AVX512DQ__
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), *reinterpret_cast<const __m256i*>(rounded));
#else
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), *reinterpret_cast<const __m128i*>(rounded));
#endif
}

// 2^y, y kept within 64 of 0, by a polynomial for [0, 1] whose relative error is at most 7.5e-8. Of what
// is to be kept as bfloat16, with an error of up to 2e-3, 3.4e-6 is as good, and less work.
template <typename kept>
inline Floats power_of_two(Floats y) {
  y = clamp(y, 64.f);
  const Floats x = fraction(y);
  if constexpr (std::is_same_v<kept, BFloat16>) {
    const Floats p = (1.355575e-2f * x + 5.203237e-2f) * x + 2.4137976e-1f;
    return scale((p * x + 6.9303212e-1f) * x + 1.f, y);
  }
  const Floats p = ((1.87757297e-3f * x + 8.98933864e-3f) * x + 5.58263303e-2f) * x + 2.40153607e-1f;
  return scale((p * x + 6.93153076e-1f) * x + 0.999999925f, y);
}

// Within 2.8e-7; to be kept as bfloat16, within 2.3e-4 of themselves.
constexpr float LOG2_E = 1.44269504f;
template <typename kept>
inline Floats sigmoid(Floats x) {
  return reciprocal<kept>(1.f + power_of_two<kept>(x * -LOG2_E));
}
template <typename kept>
inline Floats hyperbolic_tangent(Floats x) {
  const Floats e = power_of_two<kept>(x * (-2.f * LOG2_E));
  return (1.f - e) * reciprocal<kept>(1.f + e);
}

}  // namespace
