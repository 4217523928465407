#include "trace/builder.h"

#include <rapidjson/document.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

namespace fusedmlp::trace {
namespace {

// [[2, 3], [], [[4], [5]]]: a list of tensors has no dims of its own, nor has an input whose dims are no integers.
Shapes parse_shapes(std::string_view text) {
  Shapes shapes;
  std::string padded;  // a cursor reads ahead
  padded.reserve(text.size() + kTextPadding);
  padded.append(text).append(kTextPadding, '\0');
  TextCursor c{padded.data(), padded.data() + text.size()};
  std::string_view value;
  const auto next = [&] {  // the cursor before a value, or false at the list's end
    c.skip_space();
    if (c.take(',')) c.skip_space();
    return *c.p != ']';
  };
  if (!c.take('[')) return shapes;
  while (next()) {
    std::vector<std::int64_t>& dims = shapes.emplace_back();
    if (!c.take('[')) {
      if (!take_value(c, value)) break;
      continue;
    }
    bool plain = true;
    while (next()) {
      std::int64_t dim = 0;
      if (!take_value(c, value)) return shapes;
      plain = plain && parse_int(value, dim);
      dims.push_back(dim);
    }
    c.take(']');
    if (!plain) dims.clear();
  }
  return shapes;
}

// Room for what the rest of the file will bring if it is like what was read: a vector that doubles instead holds old
// and new at once. Room that is never used is never touched, and takes no memory.
template <class Table>
void make_room(Table& table, std::size_t more, double progress) {
  const std::size_t needed = table.size() + more;
  if (needed <= table.capacity()) return;
  const double foreseen = progress > 0 ? 1.2 * static_cast<double>(needed) / progress : 0;
  table.reserve(std::max(needed * 2, static_cast<std::size_t>(std::min(foreseen, 1e9))));
}

template <class Integer>
void get(const rapidjson::Value& object, const char* key, Integer& out) {
  const auto member = object.FindMember(key);
  if (member == object.MemberEnd() || !member->value.IsInt64()) return;
  const std::int64_t value = member->value.GetInt64();
  if (value == static_cast<Integer>(value)) out = static_cast<Integer>(value);
}

}  // namespace

std::uint32_t TraceBuilder::add_string(std::string_view text) {
  const TextIndex::Found found = string_index_.add(text);
  if (found.added) string_index_.rebind(found.id, strings_.emplace_back(text));
  return found.id;
}

std::uint32_t TraceBuilder::add_shapes(std::string_view text) {
  const TextIndex::Found found = shape_index_.add(text);
  if (found.added) {
    shape_index_.rebind(found.id, shape_texts_.emplace_back(text));
    trace_.shapes.push_back(parse_shapes(shape_texts_.back()));
  }
  return found.id;
}

void TraceBuilder::add(const Batch& batch, double progress) {
  const std::vector<std::string_view>& texts = batch.texts.texts();
  std::vector<std::uint32_t> strings(texts.size(), kNone);
  std::vector<std::uint32_t> shapes(texts.size(), kNone);
  const auto string = [&](std::uint32_t id) {
    if (id == kNone) return kNone;
    if (strings[id] == kNone) strings[id] = add_string(texts[id]);
    return strings[id];
  };
  const auto shape = [&](std::uint32_t id) {
    if (id == kNone) return kNone;
    if (shapes[id] == kNone) shapes[id] = add_shapes(texts[id]);
    return shapes[id];
  };
  const auto base = [](const auto& table) { return static_cast<std::uint32_t>(table.size()); };
  const std::uint32_t device_base = base(trace_.device_args);
  const std::uint32_t op_base = base(trace_.op_args);
  const std::uint32_t runtime_base = base(trace_.runtime_args);
  const auto moved = [&](Event event) {
    event.name = string(event.name);
    event.pid = string(event.pid);
    event.tid = string(event.tid);
    if (event.args != kNone) {
      event.args += event.category == Category::cpu_op    ? op_base
                    : event.category == Category::runtime ? runtime_base
                                                          : device_base;
    }
    return event;
  };
  make_room(trace_.events, batch.events.size(), progress);
  make_room(trace_.op_args, batch.op_args.size(), progress);
  make_room(trace_.device_args, batch.device_args.size(), progress);
  make_room(trace_.runtime_args, batch.runtime_args.size(), progress);
  for (const Event& event : batch.events) trace_.events.push_back(moved(event));
  for (const Event& event : batch.begins_and_ends) begins_and_ends_.push_back(moved(event));
  for (OpArgs args : batch.op_args) {
    args.dims = shape(args.dims);
    args.strides = shape(args.strides);
    args.types = string(args.types);
    args.concrete = string(args.concrete);
    trace_.op_args.push_back(args);
  }
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  append(trace_.device_args, batch.device_args);
  append(trace_.runtime_args, batch.runtime_args);
  append(damages_, batch.damages);
  records_ += batch.records;
  untimed_ += batch.untimed;
}

void TraceBuilder::add_devices(std::string_view text) {
  rapidjson::Document document;
  document.Parse<rapidjson::kParseNanAndInfFlag>(text.data(), text.size());
  if (document.HasParseError() || !document.IsArray()) return;
  for (const rapidjson::Value& entry : document.GetArray()) {
    if (!entry.IsObject()) continue;
    DeviceProperties device;
    const auto name = entry.FindMember("name");
    if (name != entry.MemberEnd() && name->value.IsString()) device.name = name->value.GetString();
    get(entry, "id", device.id);
    get(entry, "computeMajor", device.compute_major);
    get(entry, "computeMinor", device.compute_minor);
    get(entry, "numSms", device.sms);
    get(entry, "totalGlobalMem", device.memory_bytes);
    get(entry, "maxThreadsPerMultiprocessor", device.max_threads_per_sm);
    get(entry, "regsPerMultiprocessor", device.registers_per_sm);
    get(entry, "sharedMemPerMultiprocessor", device.shared_memory_per_sm);
    trace_.devices.push_back(std::move(device));
  }
}

void TraceBuilder::pair_begins_and_ends() {
  std::stable_sort(begins_and_ends_.begin(), begins_and_ends_.end(),
                   [](const Event& a, const Event& b) { return a.start < b.start; });
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<Event>> open;
  for (const Event& event : begins_and_ends_) {
    std::vector<Event>& stack = open[{event.pid, event.tid}];
    if (event.duration >= 0) {
      stack.push_back(event);
    } else if (!stack.empty()) {
      stack.back().duration = event.start - stack.back().start;
      trace_.events.push_back(stack.back());
      stack.pop_back();
    } else {
      ++untimed_;
    }
  }
  for (const auto& [row, stack] : open) untimed_ += stack.size();
}

Trace TraceBuilder::finish() {
  pair_begins_and_ends();
  const auto before = [](const Event& a, const Event& b) {
    return a.start != b.start ? a.start < b.start : a.duration > b.duration;
  };
  if (!std::is_sorted(trace_.events.begin(), trace_.events.end(), before)) {
    std::stable_sort(trace_.events.begin(), trace_.events.end(), before);
  }
  trace_.strings.reserve(strings_.size());
  for (std::string& text : strings_) trace_.strings.push_back(std::move(text));
  return std::move(trace_);
}

}  // namespace fusedmlp::trace
