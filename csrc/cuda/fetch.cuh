// What a block's last warp does while the others work on a ticket: it draws the next one at which
// there is something to do, brings what the tables say of it to shared memory, and asks for its
// arrays, so that neither the chain of pointers nor the memory behind it is waited for.
#pragma once

#include "row_sums.cuh"

namespace adamp {

// A struct spread over the lanes of a warp, a word each.
template <class T>
class Spread {
 public:
  ADAMP_DEVICE explicit Spread(const T* from) {
    const int lane = lane_index();
    if (lane < kWords) word_ = load_word(from, lane);
  }
  ADAMP_DEVICE void put(T& to) const {
    const int lane = lane_index();
    if (lane < kWords) store_cross_block(reinterpret_cast<uint32_t*>(&to) + lane, word_);
  }

 private:
  static constexpr int kWords = sizeof(T) / sizeof(uint32_t);
  static_assert(kWords <= kWarpSize && sizeof(T) % sizeof(uint32_t) == 0, "one word for each lane");
  uint32_t word_ = 0;
};

// Asks for a part of an item's arrays to be in L2.
template <class M>
ADAMP_DEVICE void ask_for(const TensorInfo& info, const Item& item, const void* grad) {
  const int64_t size = size_of(info.dtype);
  const int64_t offset = (item.row_begin * info.cols + item.col_begin) * size;
  const int bytes =
      static_cast<int>((item.row_end - item.row_begin) * (item.col_end - item.col_begin) * size);
  constexpr int kEighths =
      kTwoMoments<M> ? ADAMP_PREFETCH_EIGHTHS_ADAMP : ADAMP_PREFETCH_EIGHTHS_SGDP;
  const int asked = bytes * kEighths / 8;
  const auto ask = [&](const void* array) {
    prefetch(static_cast<const unsigned char*>(array) + offset, asked, lane_index());
  };
  ask(grad);
  ask(info.param);
  ask(info.moment1);
  if constexpr (kTwoMoments<M>) ask(info.moment2);
}

// Whether there is nothing to finish of a tensor, as far as is known: where it is not decided yet,
// the workers look again. Called by all lanes together.
ADAMP_DEVICE bool is_settled(const Decision& decision) {
  const bool first_lane = lane_index() == 0;
  return warp_sum(first_lane && load_acquire(&decision.decided) == kSettled) != 0;
}

// One thread, when a finish ticket is done: whoever is last leaves the counters as they were.
ADAMP_DEVICE void count_finished(Decision& decision, const DeviceTensor& tensor) {
  const uint32_t all = static_cast<uint32_t>(tensor.finish_tickets);
  if (fetch_add_acq_rel(&decision.finished, 1) + 1 != all) return;
  store_cross_block(&decision.finished, 0u);
  store_cross_block(&decision.decided, static_cast<uint32_t>(kUndecided));
}

// The next ticket, and whether it is work. What can be loaded at once is, before the first of it is
// stored: stores wait for their loads, and later loads for them.
template <class M>
ADAMP_DEVICE bool fetch_ticket(const KernelArgs& args, const Launch& launch, Fetched& to) {
  const bool first_lane = lane_index() == 0;
  const uint32_t drawn = first_lane ? fetch_add_relaxed(args.next_ticket, 1) : 0;
  const uint32_t number = warp_sum(drawn);
  if (first_lane) to.number = number;
  if (number >= args.n_tickets) return true;  // to go home, that is

  const Ticket ticket = args.tickets[number];
  const DeviceTensor* const tensor = &launch.tensors[ticket.tensor];
  const Item item = launch.items[ticket.first_item];
  const TensorInfo info = tensor->info;
  const Spread<DeviceTensor> tensor_words(tensor);
  const void* const grad = launch.grads[ticket.tensor];
  const Hyper* const hyper = &launch.hypers[launch.hyper_indices[ticket.tensor]];
  const bool accumulates = ticket.kind == TicketKind::kAccumulate;
  Decision& decision = launch.decisions[ticket.tensor];
  const bool settled = !accumulates && is_settled(decision);
  if (grad == nullptr) return false;
  if (settled) {
    if (first_lane) count_finished(decision, *tensor);
    return false;
  }
  if (accumulates) ask_for<M>(info, item, grad);

  const Spread<Hyper> hyper_words(hyper);
  const double lr = hyper->lr;
  const float* const device_lr = hyper->device_lr;
  View last = View::kNone;
  // As long as the tensor has an item to accumulate, nobody changes its last outcome.
  if (accumulates && info.view != nullptr) last = static_cast<View>(load_cross_block(info.view));
  tensor_words.put(to.tensor);
  hyper_words.put(to.hyper);
  if (first_lane) {
    to.ticket = ticket;
    to.grad = grad;
    to.item = item;
    to.last = last;
    to.lr = device_lr == nullptr ? lr : *device_lr;
  }
  return true;
}

// The next work of this block. Called by all lanes of the last warp together. Tickets without work
// end here: seen by the workers, each would cost them a turn for which nothing was asked for ahead.
template <class M>
ADAMP_DEVICE void fetch(const KernelArgs& args, const Launch& launch, Fetched& to) {
  while (!fetch_ticket<M>(args, launch, to)) {
  }
}

}  // namespace adamp
