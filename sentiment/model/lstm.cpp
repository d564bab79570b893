// One bidirectional LSTM layer on a CPU, forward and backward, called from kernel.py.
//
// Rows of a batch do not depend on each other, so a thread takes a block of rows of one direction
// through all time steps without waiting for another. A step of a block is a small product with the
// weights, which stay in the thread's own cache, and one pass over its sums. Both
// directions meet a review's tokens where they stand: the right-to-left one begins at the longest
// row's end, and a row joins in at its own last token.
//
// T time, B batch, D direction (0 left to right, 1 right to left), H hidden size, G = 4H gates in
// PyTorch's order: input, forget, cell candidate, output.

#include <ATen/native/CPUBlas.h>
#include <fbgemm/Utils.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <type_traits>
#include <utility>

namespace {

using at::BFloat16;
namespace blas = at::native::cpublas;

constexpr int64_t ROWS = 32;   // of a block: as many as fill the matrix units of a core
constexpr int64_t WIDTH = 64;  // most columns of a panel: what oneDNN packs at once
constexpr int64_t UNITS = 16;  // whose four gates are such a panel

#ifdef __AVX512DQ__
using Floats = __m512;  // below, limits come first, which keeps what is no number
inline Floats clamp(Floats x, float most) { return _mm512_max_ps(Floats{} - most, _mm512_min_ps(Floats{} + most, x)); }
inline Floats fraction(Floats x) { return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF); }
inline Floats scale(Floats p, Floats y) { return _mm512_scalef_ps(p, y); }  // p times 2^floor(y)
inline Floats reciprocal(Floats x) {  // of a finite x; faster than a division
  const Floats guess = _mm512_rcp14_ps(x);
  return guess * (2.f - x * guess);  // Newton's step doubles its 14 bits
}
#else
using Floats = __m256;
inline Floats clamp(Floats x, float most) { return _mm256_max_ps(Floats{} - most, _mm256_min_ps(Floats{} + most, x)); }
inline Floats fraction(Floats x) { return x - _mm256_floor_ps(x); }
inline Floats scale(Floats p, Floats y) {
  return p * std::bit_cast<Floats>((std::bit_cast<__v8su>(_mm256_cvtps_epi32(_mm256_floor_ps(y))) + 127) << 23);
}
inline Floats reciprocal(Floats x) { return 1.f / x; }
#endif
constexpr int64_t LANES = sizeof(Floats) / sizeof(float);
using Unaligned [[gnu::vector_size(LANES * 4), gnu::aligned(4), gnu::may_alias]] = float;
using Bits [[gnu::vector_size(LANES * 4)]] = uint32_t;
using Halves [[gnu::vector_size(LANES * 2), gnu::aligned(2), gnu::may_alias]] = uint16_t;

inline Floats load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline Floats load(const BFloat16* from) {
  return std::bit_cast<Floats>(__builtin_convertvector(*reinterpret_cast<const Halves*>(from), Bits) << 16);
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

// 2^y, y kept within 64 of 0, by a polynomial for [0, 1] whose relative error is at most 7.5e-8.
// Sigmoids of it are within 1.4e-7, tangents within 2.8e-7.
inline Floats power_of_two(Floats y) {
  y = clamp(y, 64.f);
  const Floats x = fraction(y);
  const Floats p = ((1.87757297e-3f * x + 8.98933864e-3f) * x + 5.58263303e-2f) * x + 2.40153607e-1f;
  return scale((p * x + 6.93153076e-1f) * x + 0.999999925f, y);
}
constexpr float LOG2_E = 1.44269504f;
inline Floats sigmoid(Floats x) { return reciprocal(1.f + power_of_two(x * -LOG2_E)); }
inline Floats hyperbolic_tangent(Floats x) { return 2.f * reciprocal(1.f + power_of_two(x * (-2.f * LOG2_E))) - 1.f; }

// Weights of both directions, [D, K, N] row-major, cut into panels of `width` columns as the product
// wants them: bfloat16 in pairs of rows, [K / 2, width, 2], or widened where the processor has no such product.
template <typename scalar>
class Panels {
 public:
  const int64_t K, N, width;

  Panels(const scalar* weights, int64_t K, int64_t N, int64_t width)
      : K(K), N(N), width(width), values(std::aligned_alloc(64, 2 * K * N * sizeof(float)), std::free) {
    for (int64_t d = 0; d < 2; d++)
      for (int64_t column = 0; column < N; column += width)
        for (int64_t k = 0; k < K; k++) {
          const scalar* from = weights + (d * K + k) * N + column;
          scalar* pairs = panel<scalar>(d, column) + k / 2 * 2 * width + k % 2;
          for (int64_t n = 0; native && n < width; n++) pairs[2 * n] = from[n];
          if (!native) std::copy_n(from, width, panel<float>(d, column) + k * width);
        }
  }

  // sums, rows of C, = rows of K (each `stride` after the one before) times the panel at `column`.
  void multiply(int64_t rows, const scalar* a, int64_t stride, int64_t d, int64_t column, int64_t C,
                float* sums) const {
    if (native || std::is_same_v<scalar, float>) {
      blas::brgemm(rows, width, K, stride, width, C, false, a, panel<scalar>(d, column), sums, native);
      return;
    }
    const auto wide = std::make_unique<float[]>(rows * K);
    for (int64_t r = 0; r < rows; r++) std::copy_n(a + r * stride, K, wide.get() + r * K);
    blas::brgemm(rows, width, K, K, width, C, false, wide.get(), panel<float>(d, column), sums, false);
  }

  static void release() { blas::brgemm_release(native); }  // by a thread that has done its last product

 private:
  static inline const bool native = std::is_same_v<scalar, BFloat16> && __builtin_cpu_supports("avx512bf16");
  template <typename stored>
  stored* panel(int64_t d, int64_t column) const {
    return static_cast<stored*>(values.get()) + (d * N + column) * K;
  }
  std::unique_ptr<void, decltype(&std::free)> values;
};

// Where a block of rows of one direction lies in the tensors.
template <typename scalar>
struct Layer {
  scalar* gates[2];        // of a direction, [T, B, G], or nothing where they are neither given nor kept
  scalar* out;             // [T, B, D * H]
  float* cells;            // [D, T, B, H], or [D, 1, B, H] where only the last is wanted
  const int64_t* lengths;  // [B]
  int64_t T, B, H, cell_steps;

  scalar* gates_at(int64_t d, int64_t t, int64_t b) const { return gates[d] + (t * B + b) * 4 * H; }
  scalar* out_at(int64_t d, int64_t t, int64_t b) const { return out + (t * B + b) * 2 * H + d * H; }
  float* cells_at(int64_t d, int64_t t, int64_t b) const {
    return cells + ((d * cell_steps + (cell_steps > 1 ? t : 0)) * B + b) * H;
  }

  // Fetches units of a row into the second-level cache, to be there at the next step. That lies a
  // whole batch further on, where the processor does not look by itself.
  [[gnu::always_inline]] void prefetch(int64_t d, int64_t t, int64_t b, int64_t unit, int64_t units) const {
    if (t < 0 || t >= T) return;
    for (int64_t gate = 0; gate < 4; gate++) fetch(gates_at(d, t, b) + gate * H + unit, units);
    fetch(cells_at(d, t, b) + unit, units);
    fetch(out_at(d, t, b) + unit, units);
  }
  template <typename stored>  // inlined: GCC drops calls of functions that do nothing else
  [[gnu::always_inline]] static void fetch(const stored* from, int64_t count) {
    for (int64_t k = 0; k < count; k += 64 / sizeof(stored)) __builtin_prefetch(from + k, 1, 2);
  }
};

// Calls work(d, first row, rows, longest) for each block, on all threads.
template <typename scalar, typename Work>
void for_each_block(const Layer<scalar>& layer, int threads, Work work) {
  const int64_t units = 2 * layer.B, rows = std::clamp<int64_t>((units + threads - 1) / threads, 1, ROWS);
  const int64_t blocks = (layer.B + rows - 1) / rows;
#pragma omp parallel num_threads(threads) firstprivate(work)
  {
#pragma omp for schedule(dynamic) nowait
    for (int64_t unit = 0; unit < 2 * blocks; unit++) {
      const int64_t first = unit / 2 * rows, count = std::min(rows, layer.B - first);
      work(unit % 2, first, count, *std::max_element(layer.lengths + first, layer.lengths + first + count));
    }
    Panels<scalar>::release();
  }
}

// A step multiplies rows of K = E + H numbers, its input and the state before it, with the weights of
// both, whose columns come as panels, [D, K, H / UNITS, 4, UNITS]. If E is 0, the inputs' products are in the gates.
template <typename scalar>
void forward(const Layer<scalar>& layer, const scalar* x, int64_t E, const scalar* weights, const float* bias,
             bool keep_gates, int threads) {
  const int64_t H = layer.H, K = (E + H + 31) / 32 * 32;
  const Panels<scalar> panels(weights, K, 4 * H, WIDTH);
  for_each_block(layer, threads, [=, &panels](int64_t d, int64_t first, int64_t rows, int64_t longest) {
    alignas(64) float sums[WIDTH / UNITS][ROWS][4][UNITS];
    float opened[WIDTH], zeros[WIDTH] = {};
    auto given = std::make_unique<scalar[]>(rows * K), following = std::make_unique<scalar[]>(rows * K);
    for (int64_t step = 0; step < longest; step++) {
      const int64_t t = d ? longest - 1 - step : step, before = d ? t + 1 : t - 1, next = d ? t - 1 : t + 1;
      for (int64_t r = 0; r < rows; r++) std::copy_n(x + (t * layer.B + first + r) * E, E, given.get() + r * K);
      for (int64_t column = 0; column < H; column += WIDTH) {
        const int64_t width = std::min(WIDTH, H - column);
        for (int64_t k = 0; k < width; k += UNITS)
          panels.multiply(rows, given.get(), K, d, 4 * (column + k), WIDTH, **sums[k / UNITS]);
        for (int64_t r = 0; r < rows; r++) {
          scalar* hidden = layer.out_at(d, t, first + r) + column;
          scalar* state = following.get() + r * K + E + column;
          float* cell = layer.cells_at(d, t, first + r) + column;
          if (t >= layer.lengths[first + r]) {
            std::fill_n(hidden, width, scalar(0.f)), std::fill_n(cell, width, 0.f);
            continue;
          }
          const float* last = step > 0 ? layer.cells_at(d, before, first + r) + column : zeros;
          scalar* gates = layer.gates_at(d, t, first + r) + column;
          if (keep_gates || E == 0) layer.prefetch(d, next, first + r, column, width);
          for (int64_t k = 0; k < width; k += LANES) {
            const auto sum = [&](int64_t gate) {
              const float* b = bias + (4 * d + gate) * H + column;
              const Floats own = load(sums[k / UNITS][r][gate] + k % UNITS) + load(b + k);
              return E > 0 ? own : own + load(gates + gate * H + k);
            };
            const Floats i = sigmoid(sum(0)), f = sigmoid(sum(1)), g = hyperbolic_tangent(sum(2)), o = sigmoid(sum(3));
            const Floats c = f * load(last + k) + i * g;
            store(c, cell + k), store(o, opened + k);
            if (keep_gates) {
              store(i, gates + k), store(f, gates + H + k);
              store(g, gates + 2 * H + k), store(o, gates + 3 * H + k);
            }
          }
          for (int64_t k = 0; k < width; k += LANES) {  // by itself: does not wait for the cells
            const Floats h = load(opened + k) * hyperbolic_tangent(load(cell + k));
            store(h, hidden + k), store(h, state + k);
          }
        }
      }
      std::swap(given, following);
    }
    for (int64_t t = longest; t < layer.T; t++)
      for (int64_t r = 0; r < rows; r++) std::fill_n(layer.out_at(d, t, first + r), H, scalar(0.f));
  });
}

// Turns the gates into the gradients of their sums, in place.
template <typename scalar>
void backward(const Layer<scalar>& layer, const scalar* weights, int threads) {
  const int64_t H = layer.H, G = 4 * H;
  const Panels<scalar> panels(weights, G, H, std::gcd(H, WIDTH));
  for_each_block(layer, threads, [=, &panels](int64_t d, int64_t first, int64_t rows, int64_t longest) {
    const auto zeros = std::make_unique<float[]>(H), sums = std::make_unique<float[]>(rows * H);
    const auto carried = std::make_unique<float[]>(rows * H);
    for (int64_t t = longest; t < layer.T; t++) std::fill_n(layer.gates_at(d, t, first), rows * G, scalar(0.f));
    for (int64_t step = longest - 1; step >= 0; step--) {
      const int64_t t = d ? longest - 1 - step : step, before = d ? t + 1 : t - 1, after = d ? t - 1 : t + 1;
      for (int64_t k = 0; k < H && step < longest - 1; k += panels.width)
        panels.multiply(rows, layer.gates_at(d, after, first), G, d, k, H, sums.get() + k);
      for (int64_t r = 0; r < rows; r++) {
        scalar* gates = layer.gates_at(d, t, first + r);
        if (t >= layer.lengths[first + r]) {
          std::fill_n(gates, G, scalar(0.f));
          continue;
        }
        layer.prefetch(d, before, first + r, 0, H);
        const scalar* from_above = layer.out_at(d, t, first + r);
        const float* cell = layer.cells_at(d, t, first + r);
        const float* last = step > 0 ? layer.cells_at(d, before, first + r) : zeros.get();
        const float* from_after = sums.get() + r * H;
        float* carry = carried.get() + r * H;
        for (int64_t k = 0; k < H; k += LANES) {
          const Floats i = load(gates + k), f = load(gates + H + k);
          const Floats g = load(gates + 2 * H + k), o = load(gates + 3 * H + k);
          const Floats squashed = hyperbolic_tangent(load(cell + k));
          const Floats dh = load(from_above + k) + load(from_after + k);
          const Floats dc = load(carry + k) + dh * o * (1.f - squashed * squashed);
          store(dc * f, carry + k);
          store(dc * g * i * (1.f - i), gates + k);
          store(dc * load(last + k) * f * (1.f - f), gates + H + k);
          store(dc * i * (1.f - g * g), gates + 2 * H + k);
          store(dh * squashed * o * (1.f - o), gates + 3 * H + k);
        }
      }
    }
  });
}

// to[column, row] = from[row, column].
template <typename scalar>
void transpose(const scalar* from, scalar* to, int64_t rows, int64_t columns, int64_t from_stride, int64_t to_stride,
               int threads) {
  using bits = std::conditional_t<sizeof(scalar) == 2, uint16_t, float>;
  const auto* source = reinterpret_cast<const bits*>(from);
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < rows; row += WIDTH)
    fbgemm::transpose_simd(std::min(WIDTH, rows - row), columns, source + row * from_stride, from_stride,
                           reinterpret_cast<bits*>(to) + row, to_stride);
}

}  // namespace

#define LSTM_LAYER(name, scalar)                                                                                   \
  extern "C" void lstm_forward_##name(const scalar* x, scalar* right, scalar* left, const scalar* weights,         \
                                      const float* bias, scalar* out, float* cells, const int64_t* lengths,        \
                                      int64_t T, int64_t B, int64_t E, int64_t H, int64_t keep, int threads) {     \
    forward<scalar>({{right, left}, out, cells, lengths, T, B, H, keep ? T : 1}, x, E, weights, bias, keep,        \
                    threads);                                                                                      \
  }                                                                                                                \
  extern "C" void lstm_backward_##name(scalar* right, scalar* left, const scalar* weights, scalar* gradient,       \
                                       float* cells, const int64_t* lengths, int64_t T, int64_t B, int64_t H,      \
                                       int threads) {                                                              \
    backward<scalar>({{right, left}, gradient, cells, lengths, T, B, H, T}, weights, threads);                     \
  }                                                                                                                \
  extern "C" void lstm_transpose_##name(const scalar* from, scalar* to, int64_t rows, int64_t columns,             \
                                        int64_t from_stride, int64_t to_stride, int threads) {                     \
    transpose(from, to, rows, columns, from_stride, to_stride, threads);                                           \
  }
LSTM_LAYER(float32, float)
LSTM_LAYER(bfloat16, BFloat16)
