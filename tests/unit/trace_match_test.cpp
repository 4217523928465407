// The matcher on ops with shapes: what is an MLP, what only looks like one, and what is not all there.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "trace_builder.h"

namespace fusedmlp::test {
namespace {

using trace::Instance;
using trace::Matches;

constexpr const char* kGemm = "nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_TNT";
constexpr const char* kSiluKernel =
    "void at::native::vectorized_elementwise_kernel<8, at::native::(anonymous namespace)::silu_kernel(at::"
    "TensorIteratorBase&)::{lambda()#1}::operator()() const::{lambda(c10::BFloat16)#1}, std::array<char*, 2ul> "
    ">(int)";
constexpr const char* kMulKernel =
    "void at::native::vectorized_elementwise_kernel<8, at::native::BinaryFunctor<c10::BFloat16, c10::BFloat16, "
    "c10::BFloat16, at::native::binary_internal::MulFunctor<float> >, std::array<char*, 3ul> >(int)";
constexpr const char* kBf16 = R"(["c10::BFloat16","c10::BFloat16","c10::BFloat16"])";

void mm(TraceBuilder& b, std::int64_t m, std::int64_t k, std::int64_t n) {
  b.op("aten::mm", {{m, k}, {k, n}}, kBf16, {kGemm});
}
void silu(TraceBuilder& b, std::int64_t m, std::int64_t n) { b.op("aten::silu", {{m, n}}, kBf16, {kSiluKernel}); }
void mul(TraceBuilder& b, std::int64_t m, std::int64_t n) {
  b.op("aten::mul", {{m, n}, {m, n}}, kBf16, {kMulKernel});
}
void norm(TraceBuilder& b, std::int64_t m, std::int64_t n) {
  b.op("aten::rms_norm", {{m, n}}, kBf16, {"rms_norm_kernel"});
}

void expect_dims(const Instance& i, std::int64_t tokens, std::int64_t d_in, std::int64_t d_hidden,
                 std::int64_t d_out) {
  EXPECT_EQ(i.tokens, tokens);
  EXPECT_EQ(i.d_in, d_in);
  EXPECT_EQ(i.d_hidden, d_hidden);
  EXPECT_EQ(i.d_out, d_out);
}

TEST(Match, PlainMlp) {
  TraceBuilder b;
  mm(b, 32, 64, 256);
  silu(b, 32, 256);
  mm(b, 32, 256, 48);
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  const Instance& mlp = found.instances[0];
  EXPECT_EQ(mlp.kind, "silu");
  EXPECT_FALSE(mlp.gated);
  expect_dims(mlp, 32, 64, 256, 48);
  EXPECT_EQ(mlp.dtype, "bf16");
  EXPECT_EQ(mlp.bias, false);
  EXPECT_EQ(mlp.parts.size(), 3u);
  EXPECT_EQ(mlp.confidence, 1);
  EXPECT_TRUE(found.warnings.empty());
}

// mm -> silu -> mm where the second is up, not down: gated, never plain, and nothing when the rest is missing.
TEST(Match, TheSecondProductIsUpNotDown) {
  TraceBuilder gated;
  mm(gated, 32, 64, 256);
  silu(gated, 32, 256);
  mm(gated, 32, 64, 256);
  mul(gated, 32, 256);
  mm(gated, 32, 256, 64);
  const Matches whole = gated.match();
  ASSERT_EQ(whole.instances.size(), 1u);
  EXPECT_EQ(whole.instances[0].kind, "swiglu");
  EXPECT_TRUE(whole.instances[0].gated);
  EXPECT_EQ(whole.instances[0].parts.size(), 5u);

  TraceBuilder decoy;
  mm(decoy, 32, 64, 256);
  silu(decoy, 32, 256);
  mm(decoy, 32, 64, 256);
  norm(decoy, 32, 256);
  EXPECT_TRUE(decoy.match().instances.empty());

  TraceBuilder square;  // shapes alone do not tell: the product after it does
  mm(square, 32, 64, 64);
  silu(square, 32, 64);
  mm(square, 32, 64, 64);
  mul(square, 32, 64);
  EXPECT_TRUE(square.match().instances.empty());
}

TEST(Match, NothingThatComputesMayLieBetween) {
  TraceBuilder b;
  mm(b, 32, 64, 256);
  silu(b, 32, 256);
  norm(b, 32, 256);
  mm(b, 32, 256, 64);
  EXPECT_TRUE(b.match().instances.empty());
}

TEST(Match, AttentionIsNoMlp) {
  TraceBuilder b;
  for (int i = 0; i < 3; ++i) mm(b, 32, 64, 64);
  b.op("aten::bmm", {{4, 32, 16}, {4, 16, 32}}, kBf16, {kGemm});
  b.op("aten::softmax", {{4, 32, 32}}, kBf16, {"softmax_warp_forward"});
  b.op("aten::bmm", {{4, 32, 32}, {4, 32, 16}}, kBf16, {kGemm});
  mm(b, 32, 64, 64);
  b.op("aten::add", {{32, 64}, {32, 64}}, kBf16, {"add"});
  mm(b, 32, 64, 64);
  // Without softmax: batched products and ReLU are attention too.
  b.op("aten::bmm", {{4, 32, 16}, {4, 16, 32}}, kBf16, {kGemm});
  b.op("aten::relu", {{4, 32, 32}}, kBf16, {"relu"});
  b.op("aten::bmm", {{4, 32, 32}, {4, 32, 16}}, kBf16, {kGemm});
  EXPECT_TRUE(b.match().instances.empty());
}

TEST(Match, RowsMustAgree) {
  TraceBuilder b;
  mm(b, 32, 64, 256);
  silu(b, 32, 256);
  mm(b, 16, 256, 64);
  EXPECT_TRUE(b.match().instances.empty());
}

TEST(Match, GateAndUpBothBeforeTheActivation) {
  TraceBuilder b;
  mm(b, 32, 64, 256);
  mm(b, 32, 64, 256);
  silu(b, 32, 256);
  mul(b, 32, 256);
  mm(b, 32, 256, 64);
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].kind, "swiglu");
  expect_dims(found.instances[0], 32, 64, 256, 64);
}

TEST(Match, PackedGateAndUpByWidth) {
  TraceBuilder b;
  mm(b, 32, 64, 512);
  silu(b, 32, 256);
  mul(b, 32, 256);
  mm(b, 32, 256, 64);
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].kind, "swiglu");
  expect_dims(found.instances[0], 32, 64, 256, 64);
  EXPECT_EQ(found.instances[0].parts[0].role, Role::gate_up);
}

// sigmoid(x) x is SiLU over the full width and GLU over one half.
TEST(Match, SigmoidTimesSomethingByWidth) {
  TraceBuilder plain;
  mm(plain, 32, 64, 256);
  plain.op("aten::sigmoid", {{32, 256}}, kBf16, {"sigmoid"});
  mul(plain, 32, 256);
  mm(plain, 32, 256, 64);
  const Matches silu_found = plain.match();
  ASSERT_EQ(silu_found.instances.size(), 1u);
  EXPECT_EQ(silu_found.instances[0].kind, "silu");

  TraceBuilder half;
  mm(half, 32, 64, 512);
  half.op("aten::sigmoid", {{32, 256}}, kBf16, {"sigmoid"});
  mul(half, 32, 256);
  mm(half, 32, 256, 64);
  const Matches glu_found = half.match();
  ASSERT_EQ(glu_found.instances.size(), 1u);
  EXPECT_EQ(glu_found.instances[0].kind, "glu");
}

TEST(Match, FusedActivationOfAddmm) {
  // _addmm_activation(self, mat1, mat2, beta, alpha, use_gelu): aten/src/ATen/native/native_functions.yaml.
  for (const bool gelu : {true, false}) {
    TraceBuilder b;
    b.op("aten::_addmm_activation", {{256}, {32, 64}, {64, 256}, {}, {}, {}}, kBf16, {kGemm},
         gelu ? R"(["","","","1","1","True"])" : R"(["","","","1","1","False"])");
    b.op("aten::addmm", {{64}, {32, 256}, {256, 64}}, kBf16, {kGemm});
    const Matches found = b.match();
    ASSERT_EQ(found.instances.size(), 1u);
    EXPECT_EQ(found.instances[0].kind, gelu ? "gelu_tanh" : "relu");
    EXPECT_EQ(found.instances[0].bias, true);
    EXPECT_EQ(found.instances[0].parts.size(), 2u);
  }
}

TEST(Match, BiasCopiedOutBeforeTheProduct) {
  TraceBuilder b;
  b.open("aten::addmm", {{256}, {32, 64}, {64, 256}}, kBf16).copy().launch(kGemm).close();
  silu(b, 32, 256);
  b.open("aten::addmm", {{64}, {32, 256}, {256, 64}}, kBf16).copy().launch(kGemm).close();
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].bias, true);
  std::vector<Role> roles;
  for (const trace::Part& part : found.instances[0].parts) roles.push_back(part.role);
  EXPECT_EQ(roles, (std::vector{Role::bias, Role::up, Role::activation, Role::bias, Role::down}));
}

TEST(Match, BiasAddedByAnOpOfItsOwn) {
  TraceBuilder b;
  mm(b, 32, 64, 256);
  b.op("aten::add", {{32, 256}, {256}}, kBf16, {"add"});
  silu(b, 32, 256);
  mm(b, 32, 256, 64);
  b.op("aten::add", {{32, 64}, {64}}, kBf16, {"add"});
  b.op("aten::add", {{32, 64}, {32, 64}}, kBf16, {"residual"});
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].bias, true);
  EXPECT_EQ(found.instances[0].parts.size(), 5u);  // without the residual
}

TEST(Match, LinearWithoutAnInnerProductIsTheProduct) {
  TraceBuilder b;
  b.op("aten::linear", {{4, 8, 64}, {256, 64}, {256}}, kBf16, {kGemm});
  b.op("aten::relu", {{4, 8, 256}}, kBf16, {"relu"});
  b.op("aten::linear", {{4, 8, 256}, {64, 256}, {64}}, kBf16, {kGemm});
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].kind, "relu");
  expect_dims(found.instances[0], 32, 64, 256, 64);
  EXPECT_EQ(found.instances[0].bias, true);
}

// Triton kernels that PyTorch before 2.3 launches without an op of their own.
TEST(Match, CompiledCodeWhoseTritonKernelHasNoOp) {
  TraceBuilder b;
  b.open("Torch-Compiled Region");
  mm(b, 32, 64, 256);
  mm(b, 32, 64, 256);
  b.launch("triton_poi_fused_mul_silu_0");
  mm(b, 32, 256, 64);
  b.launch("triton_red_fused_add_mean_mul_pow_rsqrt_1");
  b.close();
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].kind, "swiglu");
  EXPECT_EQ(found.instances[0].parts.size(), 4u);
  expect_dims(found.instances[0], 32, 64, 256, 64);
}

// The kernel name's relu is what the CUTLASS kernel could do, no ReLU.
TEST(Match, ReluInAGemmsNameIsNoActivation) {
  TraceBuilder b;
  const char* gemm = "ampere_bf16_s16816gemm_relu_bf16_128x128_ldg8_f2f_stages_32x5_tn";
  b.op("aten::addmm", {{256}, {32, 64}, {64, 256}}, kBf16, {gemm});
  b.op("aten::addmm", {{64}, {32, 256}, {256, 64}}, kBf16, {gemm});
  EXPECT_TRUE(b.match().instances.empty());
}

TEST(Match, Tf32WhenTheKernelSaysSo) {
  TraceBuilder b;
  const char* fp32 = R"(["float","float"])";
  const char* tf32 = "cutlass_80_tensorop_s1688gemm_128x256_16x3_tn_align4";
  b.op("aten::mm", {{32, 64}, {64, 256}}, fp32, {tf32});
  b.op("aten::gelu", {{32, 256}}, fp32, {"gelu"});
  b.op("aten::mm", {{32, 256}, {256, 64}}, fp32, {tf32});
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].dtype, "tf32");
}

TEST(Match, RanksAndDevicesApart) {
  TraceBuilder b;
  // Interleaved in time: rank 1 runs between the parts of rank 0.
  const auto rank = [&b](int r) { b.on(std::to_string(100 + r), std::to_string(100 + r), r, 7); };
  rank(0);
  mm(b, 32, 64, 256);
  rank(1);
  mm(b, 32, 64, 256);
  rank(0);
  silu(b, 32, 256);
  rank(1);
  norm(b, 32, 256);
  rank(0);
  mm(b, 32, 256, 64);
  rank(1);
  mm(b, 32, 256, 64);
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].parts.size(), 3u);
}

TEST(Match, CutStepsAreLeftOutAndCounted) {
  TraceBuilder b;
  mul(b, 32, 256);  // the end of an MLP that began before the trace
  mm(b, 32, 256, 64);
  norm(b, 32, 64);
  mm(b, 32, 64, 256);
  silu(b, 32, 256);
  mm(b, 32, 64, 256);
  mul(b, 32, 256);
  mm(b, 32, 256, 64);
  norm(b, 32, 64);
  mm(b, 32, 64, 256);  // the beginning of one that ended after it
  silu(b, 32, 256);
  const Matches found = b.match();
  EXPECT_EQ(found.instances.size(), 1u);
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_EQ(found.warnings[0], "2 MLPs left out: the trace holds only a part of each");
}

TEST(Match, OpsWhoseKernelsAreMissingAreLeftOutAndCounted) {
  TraceBuilder b;
  mm(b, 32, 64, 256);
  silu(b, 32, 256);
  b.op("aten::mm", {{32, 256}, {256, 64}}, kBf16);  // its kernel ran after the trace ended
  const Matches found = b.match();
  EXPECT_TRUE(found.instances.empty());
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_EQ(found.warnings[0], "1 MLP left out: the trace holds only a part of it");
}

TEST(Match, AModelThatEndsInAnActivationIsNoCutMlp) {
  TraceBuilder b;
  mm(b, 32, 64, 256);
  silu(b, 32, 256);
  mm(b, 32, 256, 64);
  norm(b, 32, 64);
  mm(b, 32, 64, 10);
  b.op("aten::sigmoid", {{32, 10}}, kBf16, {"sigmoid"});
  const Matches found = b.match();
  EXPECT_EQ(found.instances.size(), 1u);
  EXPECT_TRUE(found.warnings.empty());
}

TEST(Match, DamagedShapesAreNotBelieved) {
  TraceBuilder b;
  b.op("aten::mm", {{-1, 64}, {64, 9223372036854775807}}, kBf16, {kGemm});
  b.op("aten::silu", {{9223372036854775807, 9223372036854775807}}, kBf16, {kSiluKernel});
  b.op("aten::mm", {{32}, {}}, kBf16, {kGemm});
  b.op("aten::topk", {{0, 0}}, kBf16, {"topk"});
  b.op("aten::_grouped_mm", {{0, 64}, {0, 64, 64}}, kBf16, {kGemm});
  for (const Instance& instance : b.match().instances) EXPECT_LT(instance.confidence, 1);
}

}  // namespace
}  // namespace fusedmlp::test
