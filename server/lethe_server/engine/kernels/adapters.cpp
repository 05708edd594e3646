// The adapters' products for rows by lane (minus, plus, ...), on the CPU: work only for rows that have a module, no copy
// of a weight, one call per layer. Tokens of one module that follow each other are computed together, few of them row
// by row, many as matrix products.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vectors.h"

namespace {

using namespace lethe;

// Multiply-adds, measured with AVX-512 and AVX2: where matrix products overtake single rows, and what is worth a thread.
constexpr int64_t kProductWork = 1 << 22;
constexpr int64_t kThreadWork = 1 << 16;
constexpr int64_t kBlock = 4;          // rows that share each read of a weight
constexpr int64_t kRanks = kWide / 4;  // that share each read of an input
constexpr int64_t kColumns = 2;        // vectors of outputs at a time

// With AVX2 alone products of narrow numbers are emulated, and take eight times as long as rows of them.
#if defined(__AVX2__) && !defined(__AVX512F__)
template <typename T>
constexpr bool kHasProducts = sizeof(T) >= sizeof(float);
#else
template <typename T>
constexpr bool kHasProducts = true;
#endif

struct Layer {
  int64_t lanes, slices, rank, in, out;
  std::vector<int64_t> starts;  // first output of each slice of a fused projection; one more entry ends the last
};

// Rows of one slot and lane, from `row` on and `lanes` apart: ranks from..to of the slot act on them.
struct Block {
  int64_t row, slot, from, to, rows;
};

// hidden[Ranks, Rows] = down[Ranks, in] . input[Rows, in]
template <typename T, int64_t Rows, int64_t Ranks>
void project(float* hidden, const float* input, const T* down, int64_t in) {
  Wide sums[Ranks][Rows] = {};
  int64_t i = 0;
  for (; i + kWide <= in; i += kWide) {
    Wide weights[Ranks];
    for (int64_t k = 0; k < Ranks; ++k) load(weights[k], down + k * in + i);
    for (int64_t r = 0; r < Rows; ++r) {
      Wide values;
      load(values, input + r * in + i);
      for (int64_t k = 0; k < Ranks; ++k) sums[k][r] += values * weights[k];
    }
  }
  for (int64_t k = 0; k < Ranks; ++k)
    for (int64_t r = 0; r < Rows; ++r) {
      float sum = 0.0f;
      for (int64_t j = 0; j < kWide; ++j) sum += sums[k][r][j];
      for (int64_t j = i; j < in; ++j) sum += input[r * in + j] * static_cast<float>(down[k * in + j]);
      hidden[k * Rows + r] = sum;
    }
}

// y[Rows, Columns vectors] += hidden[ranks, Rows] . up[ranks, out]; rows of y are `stride` apart
template <typename T, int64_t Rows, int64_t Columns>
void expand(T* y, int64_t stride, const float* hidden, const T* up, int64_t out, int64_t ranks) {
  Wide sums[Rows][Columns];
  for (int64_t r = 0; r < Rows; ++r)
    for (int64_t c = 0; c < Columns; ++c) load(sums[r][c], y + r * stride + c * kWide);
  for (int64_t k = 0; k < ranks; ++k) {
    Wide weights[Columns];
    for (int64_t c = 0; c < Columns; ++c) load(weights[c], up + k * out + c * kWide);
    for (int64_t r = 0; r < Rows; ++r)
      for (int64_t c = 0; c < Columns; ++c) sums[r][c] += hidden[k * Rows + r] * weights[c];
  }
  for (int64_t r = 0; r < Rows; ++r)
    for (int64_t c = 0; c < Columns; ++c) store(y + r * stride + c * kWide, sums[r][c]);
}

// y[out] += sum over slices and ranks from..to of (x . a[slice, rank]) * b[rank, outputs of the slice], for `Rows` rows
// of y and x, each `lanes` rows apart.
template <typename T, int64_t Rows>
void add_rows(T* y, const T* x, const T* a, const T* b, const Layer& layer, int64_t from, int64_t to, float* scratch) {
  float* input = scratch;                     // [Rows, in]
  float* hidden = scratch + Rows * layer.in;  // [to - from, Rows]
  const int64_t stride = layer.lanes * layer.out;
  for (int64_t r = 0; r < Rows; ++r) copy(input + r * layer.in, x + layer.lanes * r * layer.in, layer.in);
  for (int64_t slice = 0; slice < layer.slices; ++slice) {
    const int64_t first = layer.starts[slice], last = layer.starts[slice + 1];
    int64_t rank = from;
    const auto down = [&] { return a + (slice * layer.rank + rank) * layer.in; };
    for (; rank + kRanks <= to; rank += kRanks)
      project<T, Rows, kRanks>(hidden + (rank - from) * Rows, input, down(), layer.in);
    for (; rank < to; ++rank) project<T, Rows, 1>(hidden + (rank - from) * Rows, input, down(), layer.in);
    const T* up = b + from * layer.out;
    int64_t o = first;
    for (; o + kColumns * kWide <= last; o += kColumns * kWide)
      expand<T, Rows, kColumns>(y + o, stride, hidden, up + o, layer.out, to - from);
    for (; o + kWide <= last; o += kWide) expand<T, Rows, 1>(y + o, stride, hidden, up + o, layer.out, to - from);
    for (; o < last; ++o)
      for (int64_t r = 0; r < Rows; ++r) {
        float sum = static_cast<float>(y[r * stride + o]);
        for (int64_t k = 0; k < to - from; ++k) sum += hidden[k * Rows + r] * static_cast<float>(up[k * layer.out + o]);
        y[r * stride + o] = static_cast<T>(sum);
      }
  }
}

template <typename T>
void add_block(T* y, const T* x, const T* a, const T* b, const Layer& layer, const Block& block, float* scratch) {
  const auto call = [&](auto rows) {
    add_rows<T, decltype(rows)::value>(y, x, a, b, layer, block.from, block.to, scratch);
  };
  switch (block.rows) {
    case 1: return call(std::integral_constant<int64_t, 1>{});
    case 2: return call(std::integral_constant<int64_t, 2>{});
    case 3: return call(std::integral_constant<int64_t, 3>{});
    default: return call(std::integral_constant<int64_t, kBlock>{});
  }
}

// Where a layer's adapters lie in the weights of all layers: a [slices, rank, in] and b [rank, out] of each slot.
struct Slots {
  const at::Tensor& weights;
  const Layer& layer;
  int64_t start, size_a;

  int64_t a_at(int64_t slot) const { return start + slot * layer.slices * layer.rank * layer.in; }
  int64_t b_at(int64_t slot) const { return start + size_a + slot * layer.rank * layer.out; }
};

// The same for all rows of y [m, out] and x [m, in], strided by row.
void add_product(const at::Tensor& y, const at::Tensor& x, const Slots& slots, int64_t slot, int64_t from,
                 int64_t to) {
  const Layer& layer = slots.layer;
  const int64_t ranks = to - from;
  const auto part = [&](int64_t at, at::IntArrayRef shape) {
    return slots.weights.narrow(0, at, c10::multiply_integers(shape)).view(shape);
  };
  const at::Tensor a = part(slots.a_at(slot), {layer.slices, layer.rank, layer.in}).narrow(1, from, ranks);
  const at::Tensor b = part(slots.b_at(slot), {layer.rank, layer.out}).narrow(0, from, ranks);
  const at::Tensor hidden = at::mm(x, a.reshape({layer.slices * ranks, layer.in}).t());
  for (int64_t slice = 0; slice < layer.slices; ++slice) {
    const int64_t first = layer.starts[slice], width = layer.starts[slice + 1] - first;
    y.narrow(1, first, width).addmm_(hidden.narrow(1, slice * ranks, ranks), b.narrow(1, first, width));
  }
}

template <typename T>
void add_typed(at::Tensor& y, const at::Tensor& x, const Slots& slots, const int64_t* token_slots,
               const int64_t* bounds, int64_t tokens) {
  const Layer& layer = slots.layer;
  const int64_t row_work = layer.rank * (layer.slices * layer.in + layer.out);
  std::vector<Block> blocks;
  for (int64_t token = 0; token < tokens;) {
    const int64_t slot = token_slots[token];
    int64_t end = token + 1;
    while (end < tokens && token_slots[end] == slot) ++end;
    for (int64_t lane = 0; lane < layer.lanes && slot >= 0; ++lane) {
      const int64_t *own = bounds + slot * (layer.lanes + 1) + lane, from = own[0], to = own[1];
      if (from == to) continue;
      if (kHasProducts<T> && (end - token) * row_work >= kProductWork) {
        add_product(y.view({tokens, layer.lanes, layer.out}).select(1, lane).narrow(0, token, end - token),
                    x.view({tokens, layer.lanes, layer.in}).select(1, lane).narrow(0, token, end - token), slots, slot,
                    from, to);
        continue;
      }
      for (int64_t row = token; row < end; row += kBlock) {
        blocks.push_back({layer.lanes * row + lane, slot, from, to, std::min(kBlock, end - row)});
      }
    }
    token = end;
  }
  if (blocks.empty()) return;
  const T *x_data = x.const_data_ptr<T>(), *weights = slots.weights.const_data_ptr<T>();
  T* y_data = y.mutable_data_ptr<T>();
  at::parallel_for(0, blocks.size(), std::max<int64_t>(1, kThreadWork / row_work), [&](int64_t begin, int64_t end) {
    static thread_local std::vector<float> scratch;
    scratch.resize(kBlock * (layer.in + layer.rank));
    for (int64_t at = begin; at < end; ++at) {
      const Block& block = blocks[at];
      add_block(y_data + block.row * layer.out, x_data + block.row * layer.in, weights + slots.a_at(block.slot),
                weights + slots.b_at(block.slot), layer, block, scratch.data());
    }
  });
}

// y [lanes * n, out] and x [lanes * n, in], contiguous. weights: a [slots, slices, rank, in] and b [slots, rank, out]
// from `start` on. widths: outputs of each slice. token_slots [at least n] and bounds [slots, lanes + 1], the first rank
// of each lane and the end of the last: int64, contiguous; a negative slot is a token without a module.
void add_adapters(at::Tensor& y, const at::Tensor& x, const at::Tensor& weights, int64_t start, int64_t rank,
                  at::IntArrayRef widths, const at::Tensor& token_slots, const at::Tensor& bounds) {
  const int64_t lanes = bounds.size(1) - 1, tokens = x.size(0) / lanes;
  const int64_t* slot_of = token_slots.const_data_ptr<int64_t>();
  if (std::all_of(slot_of, slot_of + tokens, [](int64_t slot) { return slot < 0; })) return;
  Layer layer{lanes, static_cast<int64_t>(widths.size()), rank, x.size(1), y.size(1), {0}};
  for (const int64_t width : widths) layer.starts.push_back(layer.starts.back() + width);
  TORCH_CHECK(layer.starts.back() == layer.out, "add_adapters: slices of ", layer.starts.back(), " for ", layer.out);
  TORCH_CHECK(y.is_contiguous() && weights.is_contiguous(), "add_adapters: y and weights must be contiguous");
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, y.scalar_type(), "add_adapters", [&] {
    const Slots slots{weights, layer, start, bounds.size(0) * layer.slices * rank * layer.in};
    add_typed<scalar_t>(y, x.contiguous(), slots, slot_of, bounds.const_data_ptr<int64_t>(), tokens);
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(lethe, library) {
  library.def(
      "add_adapters(Tensor(a!) y, Tensor x, Tensor weights, int start, int rank, int[] widths, Tensor token_slots, "
      "Tensor bounds) -> ()");
}
TORCH_LIBRARY_IMPL(lethe, CPU, library) { library.impl("add_adapters", &add_adapters); }
