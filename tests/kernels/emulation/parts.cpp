#include "parts.h"

#include "fibers.h"
#include "oracle.h"
#include "statistics.h"

namespace emulation {
namespace {

constexpr int kFields = sizeof(adamp::ShardSums) / sizeof(double);
constexpr int kStatSums = sizeof(adamp::ShardStats) / sizeof(double);

// Calls body(i, k) for each element k of a part: it is element i of the whole.
template <class Body>
void for_each(const Arrays& whole, const Part& part, const Body& body) {
  for (int64_t row = 0; row < part.rows; ++row) {
    for (int64_t col = 0; col < part.cols; ++col) {
      body((part.first_row + row) * whole.cols + part.first_col + col, row * part.cols + col);
    }
  }
}

}  // namespace

Arrays::Arrays(const Case& c, const TensorSpec& spec, int64_t rows, int64_t cols)
    : rows(rows), cols(cols) {
  const int64_t numel = rows * cols;
  p = Array("weight", spec.dtype, numel, spec.offset);
  m = Array("moment 1", spec.dtype, numel, spec.offset + spec.moment1_offset);
  if (c.method == Method::kAdamP) {
    v = Array("moment 2", spec.dtype, numel, spec.offset + spec.moment2_offset);
  }
  view = Array("view", DType::kFloat32, 1, 0);
  if (c.options.counts_on_device) {
    const bool wide = spec.dtype == DType::kFloat64;
    count = Array("step", wide ? DType::kFloat64 : DType::kFloat32, 1, 0);
    count.set(0, 0);
  }
  stats = Array("statistics", DType::kFloat64, kStatFields, 0);
  for (int i = 0; i < kStatFields; ++i) stats.set(i, 0);
  for (int step = 0; step < c.steps; ++step) {
    grads.emplace_back("gradient", spec.dtype, numel, spec.grad_offset);
  }
}

adamp::Shard Part::shard(const TensorSpec& whole, bool measured) const {
  if (sums.data() == nullptr || !(needs_sums || measured)) return {};
  adamp::Shard shard = {static_cast<adamp::ShardSums*>(sums.data()),
                        static_cast<double*>(row_sums.data()), whole.cols, whole.rows * whole.cols};
  if (measured) {
    shard.stats = static_cast<adamp::ShardStats*>(stat_sums.data());
    shard.max_cosine = static_cast<double*>(max_cosine.data());
  }
  return shard;
}

std::vector<Part> parts_of(const Case& c, const TensorSpec& spec, const Arrays& whole) {
  std::vector<Part> parts;
  if (spec.parts.empty()) {
    parts.emplace_back();
    static_cast<Arrays&>(parts[0]) = whole;
    return parts;
  }
  const bool of_rows = spec.parts_of_rows;
  const bool needs_sums = spec.projection == Projection::kAuto ||
                          spec.projection == Projection::kLayer ||
                          (spec.projection == Projection::kChannel && of_rows);
  int64_t before = 0;
  for (const int64_t size : spec.parts) {
    Part part;
    static_cast<Arrays&>(part) =
        Arrays(c, spec, of_rows ? spec.rows : size, of_rows ? size : spec.cols);
    (of_rows ? part.first_col : part.first_row) = before;
    before += size;
    part.needs_sums = needs_sums;
    part.sums = Array("sums", DType::kFloat64, kFields, 0);
    part.stat_sums = Array("sums for statistics", DType::kFloat64, kStatSums, 0);
    part.max_cosine = Array("max_cosine", DType::kFloat64, 1, 0);
    if (needs_sums && of_rows && spec.projection != Projection::kLayer) {
      part.row_sums = Array("sums of rows", DType::kFloat64, 4 * spec.rows, 0);
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

void scatter(const Arrays& whole, std::vector<Part>& parts) {
  if (parts.size() == 1) return;
  for (Part& part : parts) {
    for_each(whole, part, [&](int64_t i, int64_t k) {
      part.p.set(k, whole.p.get(i));
      part.m.set(k, whole.m.get(i));
      if (part.v.data() != nullptr) part.v.set(k, whole.v.get(i));
    });
    part.view.load(whole.view.save());
    part.count.load(whole.count.save());
    part.stats.load(whole.stats.save());
  }
}

void scatter_gradient(const Arrays& whole, std::vector<Part>& parts, int step) {
  if (parts.size() == 1) return;
  for (Part& part : parts) {
    for_each(whole, part,
             [&](int64_t i, int64_t k) { part.grads[step].set(k, whole.grads[step].get(i)); });
  }
}

void gather(Arrays& whole, const std::vector<Part>& parts) {
  if (parts.size() == 1) return;
  for (const Part& part : parts) {
    for_each(whole, part, [&](int64_t i, int64_t k) {
      whole.p.set(i, part.p.get(k));
      whole.m.set(i, part.m.get(k));
      if (part.v.data() != nullptr) whole.v.set(i, part.v.get(k));
    });
    if (part.view.save() != parts[0].view.save()) throw Fault("processes differ in an outcome");
    if (part.count.save() != parts[0].count.save()) throw Fault("processes differ in a count");
    if (part.stats.save() != parts[0].stats.save()) throw Fault("processes differ in statistics");
  }
  whole.view.load(parts[0].view.save());
  whole.count.load(parts[0].count.save());
  whole.stats.load(parts[0].stats.save());
}

void clear(std::vector<Part>& parts) {
  for (Part& part : parts) {
    for (Array* const sums : {&part.sums, &part.row_sums, &part.stat_sums, &part.max_cosine}) {
      for (int64_t i = 0; i < sums->count(); ++i) sums->set(i, 0);
    }
  }
}

void add_up(const TensorSpec& whole, std::vector<Part>& parts, const adamp::Hyper& h, bool steps,
            bool measured) {
  if (parts[0].sums.data() == nullptr || !(parts[0].needs_sums || measured)) return;
  double all[kFields] = {}, stats[kStatSums] = {}, max_cosine = 0;
  std::vector<double> rows(parts[0].row_sums.count());
  for (const Part& part : parts) {
    if (part.sums.get(0) != steps) throw Fault("a process says otherwise of what it steps");
    for (int i = 0; i < kFields; ++i) all[i] += part.sums.get(i);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] += part.row_sums.get(i);
    for (int i = 0; i < kStatSums; ++i) {
      stats[i] += part.stat_sums.get(i);
      if (i > 0 && !rows.empty() && part.stat_sums.get(i) != 0) {
        throw Fault("a process says of rows what it cannot know");
      }
    }
    max_cosine = larger_of(part.max_cosine.get(0), max_cosine);
  }
  if (!rows.empty()) {
    std::fill(all + 1, all + kFields, 0);
    for (const double* row = rows.data(); row < rows.data() + rows.size(); row += 4) {
      const double length = static_cast<double>(whole.cols);
      const Sums sums = {row[0], row[1], row[2], row[3]};
      all[1] += steps && !test_passes(sums, length, h);
      for (int i = 0; i < 4; ++i) all[2 + i] += row[i];
      if (!measured) continue;
      const double radial = removed_from(1, sums, h);
      stats[1] += radial * sums.pp;
      stats[2] += radial * sums.pu;
      stats[3] += radial * radial * sums.pp;
      max_cosine = larger_of(cosine_of(sums, h), max_cosine);
    }
  }
  for (Part& part : parts) {
    for (int i = 0; i < kFields; ++i) part.sums.set(i, all[i]);
    for (size_t i = 0; i < rows.size(); ++i) part.row_sums.set(i, rows[i]);
    for (int i = 0; i < kStatSums; ++i) part.stat_sums.set(i, stats[i]);
    part.max_cosine.set(0, max_cosine);
  }
}

}  // namespace emulation
