#include "packed_tensor.h"

#include <sys/mman.h>
#include <torch/csrc/stable/c/shim.h>

#include <atomic>
#include <cstring>
#include <random>

#include "call.h"
#include "executor.h"
#include "fusedmlp/device.h"
#include "fusedmlp/packed.h"

namespace fusedmlp::pytorch {
namespace {

constexpr std::uint64_t kMagic = 0x504c4d4445535546;  // "FUSEDMLP"
constexpr std::uint32_t kFormat = 1;

std::uint64_t process_nonce() {
  static const std::uint64_t nonce = [] {
    std::random_device device;
    return (std::uint64_t{device()} << 32) ^ device();
  }();
  return nonce;
}

// A one-tensor operator returning a number or a flag; the tensor stays the caller's.
std::uint64_t query(const char* op, const Tensor& tensor) {
  AtenTensorHandle handle = nullptr;  // the call consumes a reference
  TORCH_ERROR_CODE_CHECK(aoti_torch_new_tensor_handle(tensor.get(), &handle));
  StableIValue stack[1] = {torch::stable::detail::from(handle)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(op, "", stack, TORCH_ABI_VERSION));
  return stack[0];
}

bool is_inference(const Tensor& tensor) {
  return torch::stable::detail::to<bool>(query("aten::is_inference", tensor));
}

std::int64_t version_of(const Tensor& tensor) {
  return torch::stable::detail::to<std::int64_t>(query("aten::_version", tensor));
}

// Weights are read from end to end at every call, and PyTorch allocates in small pages. A wish: refusal costs speed
// only.
void advise_huge_pages(unsigned char* data, std::size_t bytes) {
  constexpr std::uintptr_t kHugePage = std::uintptr_t{2} << 20;
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (begin + bytes) / kHugePage * kHugePage;
  if (first < last) madvise(data + (first - begin), last - first, MADV_HUGEPAGE);
}

void mark(PackedHeader& header) { std::atomic_ref(header.stale).store(1, std::memory_order_relaxed); }

bool made_from(const PackedHeader& header, const Operands& operands, const Problem& problem) {
  if (header.isa != current_isa() || header.spec_hash != hash(problem.spec)) return false;
  for (int slot = 0; slot < kOperandTensors; ++slot) {
    const Tensor* t = operand(operands, slot);
    const Fingerprint& f = header.tensors[slot];
    if (t == nullptr) {
      if (f.data != nullptr) return false;
      continue;
    }
    if (!same_memory(f, problem.tensors[slot])) return false;
    if (f.version >= 0 && version_of(*t) != f.version) return false;
  }
  return true;
}

}  // namespace

std::uint32_t current_isa() {
  const Result<Isa> isa = cpu_isa();
  check(isa.status());
  return static_cast<std::uint32_t>(*isa);
}

Tensor make_packed(const Operands& operands, const Problem& problem) {
  const std::size_t payload = packed_bytes(problem.spec);
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(PackedHeader) + payload);
  Tensor tensor = empty(&bytes, 1, aoti_torch_dtype_uint8());
  auto* base = static_cast<unsigned char*>(tensor.data_ptr());
  if (reinterpret_cast<std::uintptr_t>(base) % 64 != 0)
    fail("packed", "PyTorch gave memory that is not 64-byte aligned");
  advise_huge_pages(base, static_cast<std::size_t>(bytes));

  PackedHeader header;
  std::memset(&header, 0, sizeof header);
  header.magic = kMagic;
  header.format = kFormat;
  header.isa = current_isa();
  header.process = process_nonce();
  header.self = base;
  header.spec_hash = hash(problem.spec);
  header.payload_offset = sizeof header;
  header.payload_bytes = payload;
  // Versions are read before the weights are: a change in between makes the copy stale, not wrong.
  for (int slot = 0; slot < kOperandTensors; ++slot) {
    const Tensor* t = operand(operands, slot);
    if (t == nullptr) continue;
    Fingerprint& f = header.tensors[slot];
    f = fingerprint(problem.tensors[slot]);
    f.version = is_inference(*t) ? -1 : version_of(*t);
  }
  TorchExecutor executor;
  const Status status = pack(problem.spec, problem.weights, base + sizeof header, Device::cpu(), &executor);
  if (!status) fail(status.argument().empty() ? "pack" : status.argument().c_str(), status.message());
  if (executor.failed()) fail("pack", "PyTorch's parallel_for reported an error");
  std::memcpy(base, &header, sizeof header);
  return tensor;
}

const void* fresh_payload(const TensorInfo& packed, const Operands& operands, const Problem& problem) {
  if (packed.sizes[0] < static_cast<std::int64_t>(sizeof(PackedHeader))) return nullptr;
  if (reinterpret_cast<std::uintptr_t>(packed.data) % 64 != 0) return nullptr;
  auto& header = *static_cast<PackedHeader*>(packed.data);
  if (header.magic != kMagic || header.format != kFormat || header.process != process_nonce() ||
      header.self != packed.data || header.payload_offset != sizeof header ||
      header.payload_bytes != static_cast<std::uint64_t>(packed.sizes[0]) - sizeof header) {
    return nullptr;
  }
  if (!made_from(header, operands, problem)) {
    mark(header);
    return nullptr;
  }
  return static_cast<const unsigned char*>(packed.data) + sizeof header;
}

void mark_stale(const Tensor& packed) { mark(*static_cast<PackedHeader*>(packed.data_ptr())); }

}  // namespace fusedmlp::pytorch
