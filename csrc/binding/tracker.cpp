#include "tracker.h"

#include <torch/csrc/autograd/python_variable.h>

#include <stdexcept>
#include <unordered_map>

#include "names.h"

namespace py = pybind11;

namespace adamp {

Tracker::Tracker(Method method, const py::list& slots, const py::list& groups,
                 const py::dict& state)
    : options_{method, std::nullopt} {
  std::unordered_map<PyObject*, int64_t> entry_of;
  entries_.reserve(py::len(slots));
  for (const py::handle slot : slots) {
    const Entry& entry = entries_.emplace_back(method, slot, lock_);
    entry_of[entry.param.object] = static_cast<int64_t>(entries_.size()) - 1;
  }
  const auto find = [&](const py::handle& param) {
    const auto found = entry_of.find(param.ptr());
    return found == entry_of.end() ? -1 : found->second;
  };
  if (!entries_.empty()) device_ = entries_[0].param.tensor().device();
  if (!device_.is_cpu()) options_.lr_device = device_;

  size_t covered = 0;
  for (const py::handle group : groups) {
    auto& listed = listed_.emplace_back();
    for (const py::handle param : py::cast<py::dict>(group)["params"]) {
      listed.push_back({param.ptr(), find(param)});
      covered += listed.back().entry >= 0;
    }
    projections_.push_back(py::cast<py::dict>(group)["projection"]);
  }
  covers_params_ = covered == entries_.size();
  serves_.resize(listed_.size());
  for (const Entry& entry : entries_) serves_[entry.group] = true;
  for (const auto& tile : state) {
    state_items_.push_back({tile.first.ptr(), tile.second.ptr(), find(tile.first)});
  }
  group_options_.resize(listed_.size());
  if (!read_options(groups)) throw std::invalid_argument("an option of a group is not a number");
}

std::vector<TensorInfo> Tracker::infos() const {
  std::vector<TensorInfo> infos;
  for (const Entry& entry : entries_) infos.push_back(entry.info());
  return infos;
}

void Tracker::end_step() {
  for (Entry& entry : entries_) entry.end_step();
  lock_.clear();
}

bool Tracker::refresh(const py::list& groups, const py::dict& state) {
  lock_.clear();
  lock_.needed = !keeps_gil_;
  const bool fits =
      covers_params_ && check_state(state) && read_options(groups) && refresh_entries(groups);
  if (!fits) lock_.clear();
  return fits;
}

// Whether the state is kept for the same parameters, in the same dictionaries. One of them may be
// new, at the address of one that was: what it holds is then looked at all the same.
bool Tracker::check_state(const py::dict& state) {
  if (PyDict_Size(state.ptr()) != static_cast<Py_ssize_t>(state_items_.size())) return false;
  Py_ssize_t position = 0;
  PyObject *key, *value;
  for (size_t i = 0; PyDict_Next(state.ptr(), &position, &key, &value); ++i) {
    const StateItem& tile = state_items_[i];
    if (key != tile.param || value != tile.values) return false;
    if (tile.entry < 0) continue;
    if (!PyDict_Check(value)) return false;
    entries_[tile.entry].state = value;
  }
  return true;
}

bool Tracker::read_options(const py::list& groups) {
  if (PyList_GET_SIZE(groups.ptr()) != static_cast<Py_ssize_t>(group_options_.size())) return false;
  for (size_t i = 0; i < group_options_.size(); ++i) {
    if (!serves_[i]) continue;  // another backend may serve it, which this one could not
    PyObject* const group = PyList_GET_ITEM(groups.ptr(), i);
    if (!options_.read(group, projections_[i].ptr(), group_options_[i])) return false;
  }
  return true;
}

// While one entry is looked at, prefetches what is looked at of a later one. Measured with 1,000
// tensors after a step of another optimizer: two ahead, 1,130 to 970 us; one, four or eight, a
// little less.
void Tracker::prefetch_ahead(size_t entry) const {
  constexpr size_t kAhead = 2;
  if (entry + kAhead < entries_.size()) entries_[entry + kAhead].prefetch();
}

bool Tracker::refresh_entries(const py::list& groups) {
  for (size_t i = 0; i < listed_.size(); ++i) {
    PyObject* params = PyDict_GetItem(PyList_GET_ITEM(groups.ptr(), i), names().params);
    const std::vector<Listed>& listed = listed_[i];
    if (params == nullptr || !PyList_Check(params) ||
        PyList_GET_SIZE(params) != static_cast<Py_ssize_t>(listed.size())) {
      return false;
    }
    for (size_t j = 0; j < listed.size(); ++j) {
      PyObject* object = PyList_GET_ITEM(params, j);
      if (object != listed[j].param) return false;
      if (const int64_t entry = listed[j].entry; entry >= 0) {
        prefetch_ahead(static_cast<size_t>(entry));
        if (!entries_[entry].refresh(object, lock_)) return false;
        continue;
      }
      // Of another device, or without a gradient until now.
      const at::Tensor& param = THPVariable_Unpack(object);
      if (param.grad().defined() && param.device() == device_) return false;
    }
  }
  return true;
}

}  // namespace adamp
