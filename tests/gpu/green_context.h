// A part of the GPU's SMs as a context of its own. The driver's entry points are looked up: nothing links to libcuda.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

namespace fusedmlp::test {

template <class Function>
void find_driver_function(const char* name, Function& function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  EXPECT_EQ(cudaGetDriverEntryPointByVersion(name, &found, 12050, cudaEnableDefault, &result), cudaSuccess) << name;
  EXPECT_EQ(result, cudaDriverEntryPointSuccess) << name;
  function = reinterpret_cast<Function>(found);
}

struct GreenDriver {
  GreenDriver() {
    find_driver_function("cuDeviceGetDevResource", get_resource);
    find_driver_function("cuDevSmResourceSplitByCount", split);
    find_driver_function("cuDevResourceGenerateDesc", describe);
    find_driver_function("cuGreenCtxCreate", create);
    find_driver_function("cuGreenCtxDestroy", destroy);
    find_driver_function("cuGreenCtxStreamCreate", create_stream);
    find_driver_function("cuStreamDestroy", destroy_stream);
  }
  decltype(&cuDeviceGetDevResource) get_resource = nullptr;
  decltype(&cuDevSmResourceSplitByCount) split = nullptr;
  decltype(&cuDevResourceGenerateDesc) describe = nullptr;
  decltype(&cuGreenCtxCreate) create = nullptr;
  decltype(&cuGreenCtxDestroy) destroy = nullptr;
  decltype(&cuGreenCtxStreamCreate) create_stream = nullptr;
  decltype(&cuStreamDestroy) destroy_stream = nullptr;
};

inline const GreenDriver& green_driver() {
  static const GreenDriver driver;
  return driver;
}

// A green context over some SMs of the first GPU, with one stream.
class GreenContext {
 public:
  explicit GreenContext(CUdevResource resource) : sms_(static_cast<int>(resource.sm.smCount)) {
    CUdevResourceDesc description{};
    EXPECT_EQ(green_driver().describe(&description, &resource, 1), CUDA_SUCCESS);
    EXPECT_EQ(green_driver().create(&context_, description, 0, CU_GREEN_CTX_DEFAULT_STREAM), CUDA_SUCCESS);
    EXPECT_EQ(green_driver().create_stream(&stream_, context_, CU_STREAM_NON_BLOCKING, 0), CUDA_SUCCESS);
  }
  ~GreenContext() {
    static_cast<void>(green_driver().destroy_stream(stream_));
    static_cast<void>(green_driver().destroy(context_));
  }
  GreenContext(const GreenContext&) = delete;
  GreenContext& operator=(const GreenContext&) = delete;

  cudaStream_t stream() const { return stream_; }
  int sms() const { return sms_; }

 private:
  CUgreenCtx context_ = nullptr;
  CUstream stream_ = nullptr;
  int sms_ = 0;
};

// Two disjoint parts of the first GPU: at least `sms` SMs, and what is left.
struct Partition {
  CUdevResource part{}, rest{};
};
inline Partition partition(unsigned sms) {
  CUdevResource all{};
  EXPECT_EQ(green_driver().get_resource(0, &all, CU_DEV_RESOURCE_TYPE_SM), CUDA_SUCCESS);
  Partition out;
  unsigned groups = 1;
  EXPECT_EQ(green_driver().split(&out.part, &groups, &all, &out.rest, 0, sms), CUDA_SUCCESS);
  EXPECT_EQ(groups, 1u);
  return out;
}

}  // namespace fusedmlp::test
