// How many threads meet in the same banks of shared memory at worst, for float32, bfloat16 and
// float64: where each thread puts its pack, where the lanes of a warp read neighbours, and where
// each has a thin row of its own. 1 where none do. Printed in a line each.
#include <algorithm>
#include <cstdio>
#include <map>

#include "../../../csrc/cuda/thin_rows.cuh"

namespace {

// Threads 0 to `threads` - 1 access `bytes` bytes each, at the elements that place(thread) says.
template <class S, class Place>
int most_in_a_bank(int threads, int bytes, const Place& place) {
  std::map<int, int> threads_in;
  int most = 0;
  for (int t = 0; t < threads; ++t) {
    const int bank = place(t) * static_cast<int>(sizeof(S)) % 128 / bytes;
    most = std::max(most, ++threads_in[bank]);
  }
  return most;
}

// Lanes that have thin rows of their own.
template <class Storage>
int worst_of_thin_rows(int lanes) {
  using Thin = adamp::ThinRows<adamp::Method::kAdamP, Storage>;
  using Tile = adamp::Tile<Storage>;
  int worst = 0;
  for (int cols = 1; cols <= adamp::kMaxThinCols; ++cols) {
    for (int first = 0; (first + lanes) * cols <= 2048; first += lanes) {
      for (int k = 0; k < cols; ++k) {
        const auto place = [&](int t) {
          const int row = first + t;
          const int col = (Thin::first_column(row, cols) + k) % cols;
          return Tile::at(adamp::Span<Storage>{}, row * cols + col);
        };
        using S = typename Tile::S;
        worst = std::max(worst, most_in_a_bank<S>(lanes, sizeof(S), place));
      }
    }
  }
  return worst;
}

template <class Storage>
void print_worst() {
  using Tile = adamp::Tile<Storage>;
  using S = typename Tile::S;
  constexpr int kWidth = adamp::Span<Storage>::kWidth;
  // Of a warp, as many threads at a time as fill all banks once.
  constexpr int kLanes = 128 / static_cast<int>(sizeof(S));
  int puts = 0, reads = 0;
  for (int head = 0; head < kWidth; ++head) {
    adamp::Span<Storage> span = {};
    span.head = head;
    for (int first = head; first + 8 * kWidth <= 2048; first += 8 * kWidth) {
      for (int j = 0; j < kWidth; j += Tile::kPerWide) {
        const auto place = [&](int t) { return Tile::at(span, first + t * kWidth + j); };
        puts = std::max(puts, most_in_a_bank<S>(8, 16, place));
      }
    }
    for (int first = head; first + kLanes <= 2048; first += kLanes) {
      const auto place = [&](int t) { return Tile::at(span, first + t); };
      reads = std::max(reads, most_in_a_bank<S>(kLanes, sizeof(S), place));
    }
  }
  std::printf("%d %d %d\n", puts, reads, worst_of_thin_rows<Storage>(kLanes));
}

}  // namespace

int main() {
  print_worst<float>();
  print_worst<adamp::BFloat16>();
  print_worst<double>();
}
