// One run of an entry on the host's operands.
#include "core/gpu_run.h"
#include "cuda/common/check.h"
#include "cuda/common/operands.h"

namespace fusedmlp::core {

Result<AlignedBuffer> run_on_cuda(const KernelEntry& entry, const Query& query, const MlpWeights& weights,
                                  const void* x) {
  using cuda::check;
  const MlpSpec& spec = query.spec;
  const cuda::DeviceScope scope(query.device.device.index);
  if (!scope.status()) return scope.status();
  const std::size_t size = size_of(spec.dtype);
  const auto bytes = [&](std::int64_t width) { return static_cast<std::size_t>(query.tokens * width) * size; };
  const std::size_t workspace_bytes = entry.workspace_bytes(query);
  Result<cuda::DeviceWeights> operands = cuda::DeviceWeights::allocate(spec);
  if (!operands) return operands.status();
  if (Status status = operands->upload(weights); !status) return status;
  const Result<cuda::DeviceMemory> input = cuda::DeviceMemory::allocate(bytes(spec.d_in));
  const Result<cuda::DeviceMemory> output = cuda::DeviceMemory::allocate(bytes(spec.d_out));
  const Result<cuda::DeviceMemory> workspace = cuda::DeviceMemory::allocate(workspace_bytes);
  for (const auto* memory : {&input, &output, &workspace}) {
    if (!*memory) return memory->status();
  }
  const Result<cuda::OwnStream> stream = cuda::OwnStream::create();
  if (!stream) return stream.status();
  Status status = check(cudaMemcpy(input->data(), x, input->size(), cudaMemcpyHostToDevice), "copy x to the device");
  if (status) status = check(cudaMemset(output->data(), 0xff, output->size()), "fill y");
  if (status && workspace_bytes > 0) {
    status = check(cudaMemset(workspace->data(), 0xff, workspace_bytes), "fill the workspace");
  }
  // The stream waits for no other.
  if (status) status = check(cudaDeviceSynchronize(), "copy operands");
  if (!status) return status;
  RunArgs args;
  args.x = input->data();
  args.ldx = spec.d_in;
  args.y = output->data();
  args.ldy = spec.d_out;
  args.tokens = query.tokens;
  args.stream = stream->get();
  args.workspace = workspace->data();
  args.workspace_bytes = workspace_bytes;
  status = entry.run({spec, operands->views(), nullptr}, args, query.device);
  if (status) status = stream->wait();
  AlignedBuffer y(output->size());
  if (status) {
    status =
        check(cudaMemcpy(y.data(), output->data(), output->size(), cudaMemcpyDeviceToHost), "copy y to the host");
  }
  if (!status) return status;
  return y;
}

}  // namespace fusedmlp::core
