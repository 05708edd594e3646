// Vectors of floats, read from and written to memory of another type: GCC does it an element at a time by itself.

#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <cstring>

namespace lethe {

#ifdef __AVX512F__
constexpr int64_t kWide = 16;
#else
constexpr int64_t kWide = 8;  // more would take several of fewer registers: the sums of a block would not stay in them
#endif
typedef float Wide __attribute__((vector_size(kWide * sizeof(float))));
typedef uint32_t Words __attribute__((vector_size(kWide * sizeof(uint32_t))));
typedef uint16_t Halves __attribute__((vector_size(kWide * sizeof(uint16_t))));

template <typename T>
[[gnu::always_inline]] inline void load(Wide& to, const T* from) {
  for (int64_t i = 0; i < kWide; ++i) to[i] = static_cast<float>(from[i]);
}

template <>
[[gnu::always_inline]] inline void load(Wide& to, const float* from) {
  std::memcpy(&to, from, sizeof(to));
}

template <>
[[gnu::always_inline]] inline void load(Wide& to, const at::BFloat16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  to = reinterpret_cast<Wide>(__builtin_convertvector(halves, Words) << 16);
}

template <typename T>
[[gnu::always_inline]] inline void store(T* to, const Wide& from) {
  for (int64_t i = 0; i < kWide; ++i) to[i] = static_cast<T>(from[i]);
}

template <>
[[gnu::always_inline]] inline void store(float* to, const Wide& from) {
  std::memcpy(to, &from, sizeof(from));
}

template <>
[[gnu::always_inline]] inline void store(at::BFloat16* to, const Wide& from) {
  const Words bits = reinterpret_cast<Words>(from);
  const Words nearest = bits + 0x7fff + ((bits >> 16) & 1);
  const Halves halves = __builtin_convertvector((from == from ? nearest : bits | 0x400000) >> 16, Halves);
  std::memcpy(to, &halves, sizeof(halves));
}

// `count` elements as floats.
template <typename T>
void copy(float* to, const T* from, int64_t count) {
  int64_t i = 0;
  for (; i + kWide <= count; i += kWide) {
    Wide values;
    load(values, from + i);
    store(to + i, values);
  }
  for (; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

}  // namespace lethe
