#include "parts.h"

#include "fibers.h"
#include "oracle.h"

namespace emulation {
namespace {

constexpr int kFields = sizeof(adamp::ShardSums) / sizeof(double);

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
  for (int step = 0; step < c.steps; ++step) {
    grads.emplace_back("gradient", spec.dtype, numel, spec.grad_offset);
  }
}

adamp::Shard Part::shard(const TensorSpec& whole) const {
  if (sums.data() == nullptr) return {};
  return {static_cast<adamp::ShardSums*>(sums.data()), static_cast<double*>(row_sums.data()),
          whole.cols, whole.rows * whole.cols};
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
    if (needs_sums) part.sums = Array("sums", DType::kFloat64, kFields, 0);
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
  }
  whole.view.load(parts[0].view.save());
  whole.count.load(parts[0].count.save());
}

void clear(std::vector<Part>& parts) {
  for (Part& part : parts) {
    for (Array* const sums : {&part.sums, &part.row_sums}) {
      for (int64_t i = 0; i < sums->count(); ++i) sums->set(i, 0);
    }
  }
}

void add_up(const TensorSpec& whole, std::vector<Part>& parts, const adamp::Hyper& h, bool steps) {
  if (parts[0].sums.data() == nullptr) return;
  double all[kFields] = {};
  std::vector<double> rows(parts[0].row_sums.count());
  for (const Part& part : parts) {
    if (part.sums.get(0) != steps) throw Fault("a process says otherwise of what it steps");
    for (int i = 0; i < kFields; ++i) all[i] += part.sums.get(i);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] += part.row_sums.get(i);
  }
  if (!rows.empty()) {
    std::fill(all + 1, all + kFields, 0);
    for (const double* row = rows.data(); row < rows.data() + rows.size(); row += 4) {
      const double length = static_cast<double>(whole.cols);
      all[1] += steps && !test_passes({row[0], row[1], row[2], row[3]}, length, h);
      for (int i = 0; i < 4; ++i) all[2 + i] += row[i];
    }
  }
  for (Part& part : parts) {
    for (int i = 0; i < kFields; ++i) part.sums.set(i, all[i]);
    for (size_t i = 0; i < rows.size(); ++i) part.row_sums.set(i, rows[i]);
  }
}

}  // namespace emulation
