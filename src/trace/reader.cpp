#include "trace/reader.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/format.h"
#include "core/guarded.h"
#include "trace/batch.h"
#include "trace/builder.h"
#include "trace/byte_source.h"

namespace fusedmlp::trace {
namespace {

constexpr std::size_t kBlock = std::size_t{1} << 20;
// A record or a top-level value must fit into memory whole; what is longer counts as damage.
constexpr std::size_t kLargestItem = std::size_t{64} << 20;
constexpr std::size_t kDamagesTold = 10;

// The part of the text that is in memory.
class Window {
 public:
  explicit Window(ByteSource& source) : source_(source) {}

  // Forgets the text before `keep` and reads on; false at the end of the text.
  bool refill(const char* keep) {
    const std::size_t kept = size_ == 0 ? 0 : static_cast<std::size_t>(buffer_.data() + size_ - keep);
    offset_ += size_ - kept;
    // As much again as is kept, so that a long record is not scanned many times.
    std::vector<char> next(kept + std::max(kBlock, kept) + kTextPadding);
    if (kept > 0) std::memcpy(next.data(), keep, kept);
    buffer_ = std::move(next);
    const std::size_t room = buffer_.size() - kTextPadding - kept;
    const std::size_t got = source_.read(buffer_.data() + kept, room);
    size_ = kept + got;
    std::memset(buffer_.data() + size_, 0, kTextPadding);
    ended_ = got < room;
    return got > 0;
  }

  TextCursor cursor() const { return {buffer_.data(), buffer_.data() + size_}; }
  std::uint64_t offset_of(const char* p) const { return offset_ + static_cast<std::uint64_t>(p - buffer_.data()); }
  std::uint64_t end_offset() const { return offset_ + size_; }
  bool ended() const { return ended_; }

 private:
  ByteSource& source_;
  std::vector<char> buffer_;
  std::size_t size_ = 0;
  std::uint64_t offset_ = 0;
  bool ended_ = false;
};

class Reader {
 public:
  Reader(const std::string& path, ByteSource& source, const ReadOptions& options)
      : path_(path), source_(source), options_(options), window_(source), parser_(options.python_functions) {}

  Result<Trace> run() {
    more();
    if (c_.end - c_.p >= 3 && std::memcmp(c_.p, "\xef\xbb\xbf", 3) == 0) c_.p += 3;
    do c_.skip_space();
    while (c_.cut() && more());
    if (c_.take('[')) {
      bare_ = true;
      place_ = Place::events;
    } else if (!c_.take('{')) {
      return refuse(c_.cut() ? problem_or("it holds nothing but white space")
                             : core::format("it is neither JSON nor gzip: its text begins with {}", shown(*c_.p)));
    }
    while (place_ != Place::end) {
      if (place_ == Place::events) {
        read_events();
      } else {
        read_member();
      }
    }
    return conclude();
  }

 private:
  enum class Place : std::uint8_t { members, events, lost, end };

  // Reads on, keeping the text from c_.p.
  bool more() {
    const bool any = window_.refill(c_.p);
    c_ = window_.cursor();
    if (options_.progress) options_.progress(source_.consumed(), source_.total());
    return any;
  }

  void read_events() {
    Batch batch;
    const Stop stop = parser_.parse(c_, window_.offset_of(c_.p), batch);
    builder_.add(batch);
    if (stop == Stop::end_of_array) {
      place_ = bare_ ? Place::end : Place::members;
      closed_ = bare_;
      return;
    }
    inside_ = stop == Stop::inside_record ? static_cast<std::int64_t>(window_.offset_of(c_.p)) : -1;
    if (static_cast<std::size_t>(c_.end - c_.p) > kLargestItem) {
      too_long();
      parser_.lose_place();
      return;
    }
    if (!more()) place_ = Place::end;
  }

  // A member of the outermost object. Keys come in any order, and traceEvents may not be the last.
  void read_member() {
    const char* const start = c_.p;
    const bool sound = place_ == Place::members && take_member();
    if (sound) return;
    if (place_ == Place::members && !c_.cut()) {
      damages_.push_back({window_.offset_of(c_.p), *c_.p});
      place_ = seen_events_ ? Place::end : Place::lost;
    }
    c_.p = start;
    if (place_ == Place::lost && find_events()) return;
    if (place_ == Place::members && static_cast<std::size_t>(c_.end - c_.p) > kLargestItem) {
      too_long();
      place_ = seen_events_ ? Place::end : Place::lost;
      return;
    }
    if (place_ != Place::end && !more()) place_ = Place::end;
  }

  bool take_member() {
    c_.skip_space();
    if (c_.take('}')) {
      closed_ = true;
      place_ = Place::end;
      return true;
    }
    if (c_.take(',')) return true;
    std::string_view key, value;
    bool escaped = false;
    if (!take_string(c_, key, escaped)) return false;
    c_.skip_space();
    if (!c_.take(':')) return false;
    c_.skip_space();
    if (key == "traceEvents" && c_.take('[')) {
      seen_events_ = true;
      place_ = Place::events;
      return true;
    }
    if (!take_value(c_, value)) return false;
    if (key == "deviceProperties") builder_.add_devices(value);
    return true;
  }

  // After damage before the events: their key, wherever it is.
  bool find_events() {
    constexpr std::string_view kKey = "\"traceEvents\"";
    const std::string_view text(c_.p, static_cast<std::size_t>(c_.end - c_.p));
    const std::size_t at = text.find(kKey);
    if (at == std::string_view::npos) {
      if (text.size() >= kKey.size()) c_.p += text.size() - kKey.size() + 1;
      return false;
    }
    c_.p += at;
    const char* const start = c_.p;
    c_.p += kKey.size();
    c_.skip_space();
    const bool colon = c_.take(':');
    c_.skip_space();
    if (colon && c_.take('[')) {
      seen_events_ = true;
      place_ = Place::events;
      return true;
    }
    if (!c_.cut()) return true;  // the text of something else: search on behind it
    c_.p = start;
    return false;
  }

  void too_long() {
    warn(core::format("the record at byte {} is longer than {} MiB and was skipped", window_.offset_of(c_.p),
                      kLargestItem >> 20));
  }

  Result<Trace> conclude() {
    if (bare_ && builder_.records() == 0) return refuse(problem_or("its JSON array holds no trace events"));
    if (!bare_ && !seen_events_) {
      return refuse(problem_or(closed_ ? std::string("its JSON has no array \"traceEvents\"")
                                       : core::format("no array \"traceEvents\" before {}", end_text())));
    }
    tell_damages();
    // A bare array may lack its end: the Chrome format says so.
    const std::string problem = source_.problem();
    if (!problem.empty() || (!closed_ && (!bare_ || inside_ >= 0))) {
      std::string text = core::format("{}: the text ends at {}", problem.empty() ? "the file is cut" : problem,
                                      at(window_.end_offset()));
      if (inside_ >= 0) text += core::format(", inside the record that begins at byte {}", inside_);
      warn(text + "; what came before was read");
    }
    Trace trace = builder_.finish();
    if (builder_.untimed() > 0) {
      warn(core::format("{} records without a usable ts and dur were left out", builder_.untimed()));
    }
    trace.warnings = std::move(warnings_);
    return trace;
  }

  void tell_damages() {
    damages_.insert(damages_.begin(), builder_.damages().begin(), builder_.damages().end());
    std::sort(damages_.begin(), damages_.end(), [](const Damage& a, const Damage& b) { return a.offset < b.offset; });
    for (std::size_t i = 0; i < std::min(damages_.size(), kDamagesTold); ++i) {
      warn(core::format("malformed JSON: unexpected {} at {}; the record was skipped", shown(damages_[i].byte),
                        at(damages_[i].offset)));
    }
    if (damages_.size() > kDamagesTold) {
      warn(core::format("{} more malformed records were skipped", damages_.size() - kDamagesTold));
    }
  }

  void warn(std::string text) { warnings_.push_back(std::move(text)); }

  std::string at(std::uint64_t offset) const {
    return core::format("byte {}{}", offset, source_.compressed() ? " of the uncompressed text" : "");
  }
  std::string end_text() const { return "its end at " + at(window_.end_offset()); }
  std::string problem_or(const std::string& text) const {
    const std::string problem = source_.problem();
    return problem.empty() ? text : problem;
  }
  static std::string shown(char byte) {
    const auto code = static_cast<unsigned char>(byte);
    return code > 0x20 && code < 0x7f ? core::format("'{}'", byte) : core::format("byte 0x{:02x}", unsigned{code});
  }

  Status refuse(const std::string& why) const { return not_a_trace(path_, why); }

  const std::string& path_;
  ByteSource& source_;
  const ReadOptions& options_;
  Window window_;
  EventParser parser_;
  TraceBuilder builder_;
  TextCursor c_;
  Place place_ = Place::members;
  bool bare_ = false;         // the text is an array of events
  bool seen_events_ = false;  // traceEvents has begun
  bool closed_ = false;       // the outermost value has ended
  std::int64_t inside_ = -1;  // start of the record that the text's end cuts
  std::vector<Damage> damages_;
  std::vector<std::string> warnings_;
};

}  // namespace

Result<Trace> read(const std::string& path, const ReadOptions& options) {
  return core::guarded([&]() -> Result<Trace> {
    Result<std::unique_ptr<ByteSource>> source = open_source(path);
    if (!source) return source.status();
    return Reader(path, **source, options).run();
  });
}

}  // namespace fusedmlp::trace
