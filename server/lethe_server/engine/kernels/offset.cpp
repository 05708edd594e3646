// The logits of an offset that is only scaled and clipped, in one pass over the vocabulary, on the CPU: apply_rules of
// lethe_offsets.pair takes a pass and a new block of memory for each term.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "vectors.h"

namespace {

using namespace lethe;

constexpr uint32_t kExponent = 0x7f800000;  // all of its bits: not finite
constexpr int64_t kThreadWork = 1 << 14;    // logits

// The first `shared` of a row's `width` logits have an offset. NaN throughout if one of them is not finite.
template <typename L, typename S>
void add_row(float* out, const L* large, const S* plus, const S* minus, int64_t width, int64_t shared, float strength,
             float clip) {
  const Wide most = Wide{} + clip;
  Words unsound{};
  const auto add = [&](const Wide& base, const Wide& above, const Wide& below) {
    Wide offset = above - below;
    unsound |= (reinterpret_cast<Words>(offset) & kExponent) == kExponent;
    offset = offset < -most ? -most : offset;
    offset = offset > most ? most : offset;
    return base + offset * strength;
  };
  Wide base{}, above{}, below{};
  int64_t i = 0;
  for (; i + kWide <= shared; i += kWide) {
    load(base, large + i), load(above, plus + i), load(below, minus + i);
    store(out + i, add(base, above, below));
  }
  if (i < shared) {
    above = below = Wide{};
    for (int64_t j = 0; i + j < shared; ++j) {
      base[j] = static_cast<float>(large[i + j]), above[j] = static_cast<float>(plus[i + j]);
      below[j] = static_cast<float>(minus[i + j]);
    }
    const Wide last = add(base, above, below);
    for (int64_t j = 0; i + j < shared; ++j) out[i + j] = last[j];
  }
  copy(out + shared, large + shared, width - shared);
  bool poisoned = std::isnan(strength);
  for (int64_t j = 0; j < kWide; ++j) poisoned |= unsound[j] != 0;
  if (poisoned) std::fill_n(out, width, std::numeric_limits<float>::quiet_NaN());
}

// large [n, width], plus and minus [n, small vocabulary]: a row's logits follow each other. strength and clip [n]:
// float; active [n]: bool, rows without a module are large's own. Returns float [n, width].
at::Tensor add_offset(const at::Tensor& large, const at::Tensor& plus, const at::Tensor& minus,
                      const at::Tensor& strength, const std::optional<at::Tensor>& clip,
                      const std::optional<at::Tensor>& active) {
  const int64_t rows = large.size(0), width = large.size(1), shared = std::min(width, plus.size(1));
  for (const at::Tensor* each : {&large, &plus, &minus})
    TORCH_CHECK(each->stride(1) == 1 || each->size(1) == 1, "add_offset: a row's logits must follow each other");
  TORCH_CHECK(plus.scalar_type() == minus.scalar_type() && plus.sizes() == minus.sizes() && plus.size(0) == rows,
              "add_offset: lanes of ", plus.sizes(), " and ", minus.sizes(), " for ", rows, " rows");
  at::Tensor out = at::empty({rows, width}, large.options().dtype(at::kFloat));
  const float* strengths = strength.const_data_ptr<float>();
  const float* clips = clip ? clip->const_data_ptr<float>() : nullptr;
  const bool* mine = active ? active->const_data_ptr<bool>() : nullptr;
  float* to = out.mutable_data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, kThreadWork / std::max<int64_t>(1, width));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, large.scalar_type(), "add_offset", [&] {
    using L = scalar_t;
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, plus.scalar_type(), "add_offset", [&] {
      using S = scalar_t;
      const L* base = large.const_data_ptr<L>();
      const S *above = plus.const_data_ptr<S>(), *below = minus.const_data_ptr<S>();
      at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          if (mine && !mine[row]) {
            copy(to + row * width, base + row * large.stride(0), width);
          } else {
            add_row(to + row * width, base + row * large.stride(0), above + row * plus.stride(0),
                    below + row * minus.stride(0), width, shared, strengths[row],
                    clips ? clips[row] : std::numeric_limits<float>::infinity());
          }
        }
      });
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(lethe, library) {
  library.def(
      "add_offset(Tensor large, Tensor plus, Tensor minus, Tensor strength, Tensor? clip, Tensor? active) -> Tensor");
}
TORCH_LIBRARY_IMPL(lethe, CPU, library) { library.impl("add_offset", &add_offset); }
