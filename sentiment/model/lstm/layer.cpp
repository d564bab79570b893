// One bidirectional LSTM layer on a CPU, forward and backward, called from kernel.py.
//
// Rows of a batch do not depend on each other, so a thread takes a block of rows of one direction
// through all time steps without waiting for another. A step of a block is a small product with the
// weights, which stay in the thread's own cache, and one pass over its sums; where tiles multiply, the
// core does both at a time. Both directions meet a review's tokens where they stand: the right-to-left
// one begins at the longest row's end, and a row joins in at its own last token.
//
// T time, B batch, D direction (0 left to right, 1 right to left), H hidden size, G = 4H gates. They
// stand by UNITS, [H / UNITS, 4, UNITS], each group in PyTorch's order: input, forget, candidate, output.

#include <fbgemm/Utils.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "numbers.h"
#include "panels.h"
#include "weights.h"

namespace {

constexpr int64_t ROWS = 32;   // of a block: as many as fill the matrix units of a core
constexpr int64_t UNITS = 16;  // whose four gates are WIDTH columns

// Where a block of rows of one direction lies in the tensors.
template <typename scalar>
struct Layer {
  scalar* gates[2];        // of a direction, [T, B, G], or nothing where they are neither given nor kept
  scalar* out;             // [T, B, D * H]
  float* cells;            // [D, T, B, H], or nothing where they are not kept
  const int64_t* lengths;  // [B]
  int64_t T, B, H;

  scalar* gates_at(int64_t d, int64_t t, int64_t b) const { return gates[d] + (t * B + b) * 4 * H; }
  scalar* out_at(int64_t d, int64_t t, int64_t b) const { return out + (t * B + b) * 2 * H + d * H; }
  float* cells_at(int64_t d, int64_t t, int64_t b) const { return cells + ((d * T + t) * B + b) * H; }

  // Fetches UNITS of a row into the second-level cache, to be there at the next step. That lies a
  // whole batch further on, where the processor does not look by itself.
  [[gnu::always_inline]] void prefetch(int64_t d, int64_t t, int64_t b, int64_t unit, bool backward) const {
    fetch(gates_at(d, t, b) + 4 * unit, 4 * UNITS);
    if (!backward) return;
    fetch(cells_at(d, t, b) + unit, UNITS);
    fetch(out_at(d, t, b) + unit, UNITS);
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
      Panels<scalar>::begin(count);
      work(unit % 2, first, count, *std::max_element(layer.lengths + first, layer.lengths + first + count));
    }
    Panels<scalar>::end();
    _mm_sfence();  // streamed numbers are there for the other threads, too
  }
}

// UNITS of a row at a step, from the sums of their gates on: cells, gates where they are kept, and
// the output gates once more.
template <typename scalar>
[[gnu::always_inline]] inline void open(const float* sums, const float* bias, float* cell, float* kept_cell,
                                        scalar* gates, float* opened, bool ahead, bool keep) {
  for (int64_t k = 0; k < UNITS; k += LANES) {
    const auto sum = [&](int64_t gate) {
      const Floats own = load(sums + gate * UNITS + k) + load(bias + gate * UNITS + k);
      return ahead ? own + load(gates + gate * UNITS + k) : own;
    };
    const Floats i = sigmoid<scalar>(sum(0)), f = sigmoid<scalar>(sum(1));
    const Floats g = hyperbolic_tangent<scalar>(sum(2)), o = sigmoid<scalar>(sum(3));
    const Floats c = f * load(cell + k) + i * g;
    store(c, cell + k), store(o, opened + k);
    if (keep) {
      stream(c, kept_cell + k), stream(i, gates + k), stream(f, gates + UNITS + k);
      stream(g, gates + 2 * UNITS + k), stream(o, gates + 3 * UNITS + k);
    }
  }
}

// A step multiplies rows of K = E + H numbers, its input and the state before it, with the weights of
// both, [D, K, G]. If E is 0, the inputs' products are in the gates. `beside` a product by tiles the
// core finishes the units of the one before; else it finishes more of them at once, after theirs.
template <typename scalar, bool beside>
void forward(const Layer<scalar>& layer, const scalar* x, int64_t E, const scalar* weights, const float* bias,
             bool keep, int threads) {
  const int64_t H = layer.H, G = 4 * H, K = (E + H + 31) / 32 * 32;
  const Panels<scalar> panels(weights, K, G, threads);
  for_each_block(layer, threads, [=, &panels](int64_t d, int64_t first, int64_t rows, int64_t longest) {
    constexpr int64_t span = beside ? UNITS : WIDTH;
    alignas(64) float sums[2][span / UNITS][ROWS][4][UNITS], opened[ROWS][span];
    auto given = zeros<scalar>(ROWS * K), following = zeros<scalar>(ROWS * K);
    const auto cells = zeros<float>(ROWS * H);
    for (int64_t step = 0; step < longest; step++) {
      const int64_t t = d ? longest - 1 - step : step, next = d ? t - 1 : t + 1;
      for (int64_t r = 0; r < rows; r++) std::copy_n(x + (t * layer.B + first + r) * E, E, given.get() + r * K);
      scalar *const gates = layer.gates_at(d, t, first), *const state = following.get() + E;
      float *const cell = cells.get(), *const kept_cell = layer.cells_at(d, t, first);
      const int64_t* const lengths = layer.lengths + first;
      const auto close = [=, &opened](int64_t unit, int64_t r) __attribute__((always_inline)) {
        for (int64_t k = 0; k < std::min<int64_t>(span, H - unit); k += LANES)
          store(load(opened[r] + k) * hyperbolic_tangent<scalar>(load(cell + r * H + unit + k)),
                state + r * K + unit + k);
      };
      const auto finish = [=, &layer, &sums, &opened](int64_t unit, int64_t r) __attribute__((always_inline)) {
        if (r > 0) close(unit, r - 1);  // by then its cells are there
        for (int64_t k = 0; k < std::min<int64_t>(span, H - unit); k += UNITS) {
          if (E == 0) layer.prefetch(d, next, first + r, unit + k, false);
          if (t < lengths[r]) {
            open(sums[unit / span % 2][k / UNITS][r][0], bias + d * G + 4 * (unit + k), cell + r * H + unit + k,
                 kept_cell + r * H + unit + k, gates + r * G + 4 * (unit + k), opened[r] + k, E == 0, keep);
          } else {
            std::fill_n(opened[r] + k, UNITS, 0.f), std::fill_n(cell + r * H + unit + k, UNITS, 0.f);
            if (keep) std::fill_n(kept_cell + r * H + unit + k, UNITS, 0.f);
          }
        }
        if (r == rows - 1) close(unit, r);
      };
      for (int64_t unit = 0; unit < H; unit += span) {
        const int64_t due = beside && unit > 0 ? rows : 0;
        for (int64_t k = 0; k < std::min<int64_t>(span, H - unit); k += UNITS)
          for (int64_t n = 0; n < WIDTH; n += panels.width)
            panels.multiply(rows, given.get(), K, d, 4 * (unit + k) + n, WIDTH, **sums[unit / span % 2][k / UNITS] + n,
                            due * n / WIDTH, due * (n + panels.width) / WIDTH,
                            [=](int64_t r) __attribute__((always_inline)) { finish(unit - span, r); });
        for (int64_t r = 0; r < rows && !beside; r++) finish(unit, r);
      }
      for (int64_t r = 0; r < rows && beside; r++) finish(H - span, r);
      for (int64_t r = 0; r < rows; r++) std::copy_n(state + r * K, H, layer.out_at(d, t, first + r));
      std::swap(given, following);
    }
    for (int64_t t = longest; t < layer.T; t++)
      for (int64_t r = 0; r < rows; r++) std::fill_n(layer.out_at(d, t, first + r), H, scalar(0.f));
  });
}

// UNITS of a row at a step, from their gates to the gradients of the gates' sums.
template <typename scalar>
[[gnu::always_inline]] inline void differentiate(const scalar* from_above, const float* from_after, const float* cell,
                                                 const float* last, float* carry, scalar* gates) {
  for (int64_t k = 0; k < UNITS; k += LANES) {
    const Floats i = load(gates + k), f = load(gates + UNITS + k);
    const Floats g = load(gates + 2 * UNITS + k), o = load(gates + 3 * UNITS + k);
    const Floats squashed = hyperbolic_tangent<scalar>(load(cell + k));
    const Floats dh = load(from_above + k) + load(from_after + k);
    const Floats dc = load(carry + k) + dh * o * (1.f - squashed * squashed);
    store(dc * f, carry + k);
    store(dc * g * i * (1.f - i), gates + k);
    store(dc * load(last + k) * f * (1.f - f), gates + UNITS + k);
    store(dc * i * (1.f - g * g), gates + 2 * UNITS + k);
    store(dh * squashed * o * (1.f - o), gates + 3 * UNITS + k);
  }
}

// Turns the gates into the gradients of their sums, in place.
template <typename scalar, bool beside>
void backward(const Layer<scalar>& layer, const scalar* weights, int threads) {
  const int64_t H = layer.H, G = 4 * H;
  const Panels<scalar> panels(weights, G, H, threads);
  for_each_block(layer, threads, [=, &panels](int64_t d, int64_t first, int64_t rows, int64_t longest) {
    const int64_t width = panels.width;
    alignas(64) float sums[2][ROWS][WIDTH] = {};
    const auto none = zeros<float>(ROWS * H), carried = zeros<float>(ROWS * H);
    for (int64_t t = longest; t < layer.T; t++) std::fill_n(layer.gates_at(d, t, first), rows * G, scalar(0.f));
    for (int64_t step = longest - 1; step >= 0; step--) {
      const int64_t t = d ? longest - 1 - step : step, before = d ? t + 1 : t - 1, after = d ? t - 1 : t + 1;
      scalar *const gates = layer.gates_at(d, t, first), *const from_above = layer.out_at(d, t, first);
      const float* const cell = layer.cells_at(d, t, first);
      const float* const last = step > 0 ? layer.cells_at(d, before, first) : none.get();
      float* const carry = carried.get();
      const int64_t* const lengths = layer.lengths + first;
      const auto finish = [=, &layer, &sums](int64_t column, int64_t r) __attribute__((always_inline)) {
        for (int64_t unit = column; unit < std::min(column + width, H); unit += UNITS) {
          layer.prefetch(d, before, first + r, unit, true);
          if (t < lengths[r])
            differentiate(from_above + r * 2 * H + unit, sums[column / width % 2][r] + unit - column,
                          cell + r * H + unit, last + r * H + unit, carry + r * H + unit, gates + r * G + 4 * unit);
          else
            std::fill_n(gates + r * G + 4 * unit, 4 * UNITS, scalar(0.f));
        }
      };
      for (int64_t column = 0; column < H; column += width) {
        const int64_t due = beside && column > 0 ? rows : 0;
        if (step < longest - 1)
          panels.multiply(rows, layer.gates_at(d, after, first), G, d, column, WIDTH, *sums[column / width % 2], 0, due,
                          [=](int64_t r) __attribute__((always_inline)) { finish(column - width, r); });
        else
          for (int64_t r = 0; r < due; r++) finish(column - width, r);
        for (int64_t r = 0; r < rows && !beside; r++) finish(column, r);
      }
      for (int64_t r = 0; r < rows && beside; r++) finish((H - 1) / width * width, r);
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
    const auto run = Panels<scalar>::by_tiles ? forward<scalar, true> : forward<scalar, false>;                    \
    run({{right, left}, out, cells, lengths, T, B, H}, x, E, weights, bias, keep, threads);                        \
  }                                                                                                                \
  extern "C" void lstm_backward_##name(scalar* right, scalar* left, const scalar* weights, scalar* gradient,       \
                                       float* cells, const int64_t* lengths, int64_t T, int64_t B, int64_t H,      \
                                       int threads) {                                                              \
    const auto run = Panels<scalar>::by_tiles ? backward<scalar, true> : backward<scalar, false>;                  \
    run({{right, left}, gradient, cells, lengths, T, B, H}, weights, threads);                                     \
  }                                                                                                                \
  extern "C" void lstm_transpose_##name(const scalar* from, scalar* to, int64_t rows, int64_t columns,             \
                                        int64_t from_stride, int64_t to_stride, int threads) {                     \
    transpose(from, to, rows, columns, from_stride, to_stride, threads);                                           \
  }
LSTM_LAYER(float32, float)
LSTM_LAYER(bfloat16, BFloat16)
extern "C" bool lstm_has_tiles() { return Panels<BFloat16>::by_tiles; }
extern "C" void lstm_weights_bfloat16(const BFloat16* x, const BFloat16* out, const BFloat16* right,
                                      const BFloat16* left, BFloat16* gradients, int64_t N, int64_t B, int64_t E,
                                      int64_t H, int threads) {
  const BFloat16* const gates[] = {right, left};
  differentiate_weights(x, out, gates, gradients, N, B, E, H, threads);
}
