// Experts, and backward passes.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "trace_builder.h"

namespace fusedmlp::test {
namespace {

using trace::Instance;
using trace::Matches;

constexpr const char* kFp32 = R"(["float","float","float"])";
constexpr const char* kGemm = "nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_TNT";

void route(TraceBuilder& b, std::int64_t tokens, std::int64_t experts, const char* top_k) {
  b.op("aten::topk", {{tokens, experts}, {}, {}, {}, {}}, kFp32, {"topk"}, std::string("[\"\",\"") + top_k + "\"]");
}

// One expert of a loop as transformers runs it: rows gathered, product, gate times up, product, rows put back.
void expert(TraceBuilder& b, std::int64_t rows) {
  b.op("aten::index", {{16, 64}}, kFp32, {"gather"});
  b.op("aten::mm", {{rows, 64}, {64, 256}}, kFp32, {kGemm});
  b.op("aten::chunk", {{rows, 256}});
  b.op("aten::silu", {{rows, 128}}, kFp32, {"silu"});
  b.op("aten::mul", {{rows, 128}, {rows, 128}}, kFp32, {"mul"});
  b.op("aten::mm", {{rows, 128}, {128, 64}}, kFp32, {kGemm});
  b.op("aten::mul", {{rows, 64}, {rows, 1}}, kFp32, {"weigh"});
  b.op("aten::index_add_", {{16, 64}}, kFp32, {"scatter"});
}

void expect_experts(const Instance& i, std::int64_t experts, std::optional<std::int64_t> top_k) {
  EXPECT_EQ(i.kind, "swiglu");
  EXPECT_EQ(i.tokens, 16);
  EXPECT_EQ(i.d_in, 64);
  EXPECT_EQ(i.d_hidden, 128);
  EXPECT_EQ(i.d_out, 64);
  EXPECT_EQ(i.experts, experts);
  EXPECT_EQ(i.top_k, top_k);
}

TEST(MatchExperts, GroupedProducts) {
  TraceBuilder b;
  route(b, 16, 8, "2");
  b.op("aten::index", {{16, 64}}, kFp32, {"gather"});
  b.op("aten::_grouped_mm", {{32, 64}, {8, 64, 256}, {8}}, kFp32, {kGemm});
  b.op("aten::silu", {{32, 128}}, kFp32, {"silu"});
  b.op("aten::mul", {{32, 128}, {32, 128}}, kFp32, {"mul"});
  b.op("aten::_grouped_mm", {{32, 128}, {8, 128, 64}, {8}}, kFp32, {kGemm});
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  expect_experts(found.instances[0], 8, 2);
  EXPECT_EQ(found.instances[0].parts.size(), 4u);
}

TEST(MatchExperts, GroupedProductsWithoutARouterHaveNoTokens) {
  TraceBuilder b;
  b.op("aten::_grouped_mm", {{32, 64}, {8, 64, 256}, {8}}, kFp32, {kGemm});
  b.op("aten::silu", {{32, 128}}, kFp32, {"silu"});
  b.op("aten::mul", {{32, 128}, {32, 128}}, kFp32, {"mul"});
  b.op("aten::_grouped_mm", {{32, 128}, {8, 128, 64}, {8}}, kFp32, {kGemm});
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].tokens, std::nullopt);
  EXPECT_EQ(found.instances[0].experts, 8);
  EXPECT_EQ(found.instances[0].top_k, std::nullopt);
}

TEST(MatchExperts, ALoopOverExpertsIsOneMlp) {
  TraceBuilder b;
  for (int layer = 0; layer < 2; ++layer) {
    route(b, 16, 8, "2");
    for (const std::int64_t rows : {12, 9, 11}) expert(b, rows);  // the other five have no rows
    b.op("aten::rms_norm", {{16, 64}}, kFp32, {"norm"});
  }
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 2u);
  for (const Instance& layer : found.instances) {
    expect_experts(layer, 8, 2);
    // 4 kernels an expert, and what routes between them: weigh, scatter, gather.
    EXPECT_EQ(layer.parts.size(), 3u * 4 + 2 * 3);
    for (const int between : {4, 5, 6}) EXPECT_EQ(layer.parts[static_cast<std::size_t>(between)].role, Role::routing);
  }
}

TEST(MatchExperts, RowsOfTheLoopTellTopKWhereTheRouterDoesNot) {
  TraceBuilder b;
  route(b, 16, 8, "");
  for (const std::int64_t rows : {12, 9, 11}) expert(b, rows);
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  expect_experts(found.instances[0], 8, 2);
}

TEST(MatchExperts, ASharedExpertIsAnMlpOfItsOwn) {
  TraceBuilder b;
  route(b, 16, 8, "2");
  for (const std::int64_t rows : {16, 16}) expert(b, rows);
  b.op("aten::mm", {{16, 64}, {64, 256}}, kFp32, {kGemm});
  b.op("aten::silu", {{16, 128}}, kFp32, {"silu"});
  b.op("aten::mul", {{16, 128}, {16, 128}}, kFp32, {"mul"});
  b.op("aten::mm", {{16, 128}, {128, 64}}, kFp32, {kGemm});
  const Matches found = b.match();
  std::size_t shared = 0;
  for (const Instance& i : found.instances) shared += i.experts ? 0 : 1;
  EXPECT_EQ(found.instances.size(), 2u);
  EXPECT_EQ(shared, 1u);
}

// Forward on one thread, backward on autograd's: the sequence numbers tie them.
void forward(TraceBuilder& b, std::int64_t first) {
  b.on("400", "400");
  b.sequence(first).op("aten::mm", {{32, 64}, {64, 256}}, kFp32, {kGemm});
  b.sequence(first + 1).op("aten::gelu", {{32, 256}}, kFp32, {"gelu"});
  b.sequence(first + 2).op("aten::mm", {{32, 256}, {256, 64}}, kFp32, {kGemm});
}

void node(TraceBuilder& b, std::int64_t number, const std::string& name,
          const std::vector<std::pair<std::string, TraceBuilder::Shapes>>& ops, bool kernels = true) {
  b.on("400", "480");
  b.sequence(number, true).open("autograd::engine::evaluate_function: " + name);
  for (const auto& [op, dims] : ops) {
    b.op(op, dims, kFp32,
         kernels ? std::vector<std::string>{op == "aten::mm" ? kGemm : op} : std::vector<std::string>{});
  }
  b.close();
}

void backward(TraceBuilder& b, std::int64_t first, bool kernels = true) {
  node(b, first + 2, "MmBackward0", {{"aten::mm", {{256, 32}, {32, 64}}}, {"aten::mm", {{32, 64}, {64, 256}}}},
       kernels);
  node(b, first + 1, "GeluBackward0", {{"aten::gelu_backward", {{32, 256}, {32, 256}}}}, kernels);
  node(b, first, "MmBackward0", {{"aten::mm", {{64, 32}, {32, 256}}}, {"aten::mm", {{32, 256}, {256, 64}}}}, kernels);
}

// Of a trace that holds an MLP like that twice, forward and backward: the backward passes.
std::vector<Instance> two_backwards(TraceBuilder& b) {
  const Matches found = b.match();
  EXPECT_EQ(found.instances.size(), 4u);
  std::vector<Instance> out;
  for (const Instance& i : found.instances) {
    EXPECT_EQ(i.kind, "gelu");
    EXPECT_EQ(i.tokens, 32);
    EXPECT_EQ(i.d_hidden, 256);
    if (i.phase != Phase::forward) out.push_back(i);
  }
  return out;
}

TEST(MatchBackward, BySequenceNumbers) {
  TraceBuilder b;
  forward(b, 10);
  b.op("aten::rms_norm", {{32, 64}}, kFp32, {"norm"});
  forward(b, 20);
  node(b, 30, "OtherBackward0", {{"aten::mm", {{32, 64}, {64, 64}}}});
  backward(b, 20);
  backward(b, 10);
  const std::vector<Instance> both = two_backwards(b);
  EXPECT_EQ(both.size(), 2u);
  for (const Instance& i : both) {
    std::vector<Role> roles;
    for (const trace::Part& part : i.parts) roles.push_back(part.role);
    EXPECT_EQ(roles, (std::vector{Role::down, Role::down, Role::activation, Role::up, Role::up}));
  }
}

// The operator's autograd function does the whole backward in one node: hidden again, then the gradients.
TEST(MatchBackward, OfThisLibrarysOperator) {
  const TraceBuilder::Shapes weights = {{2, 16, 64}, {}, {256, 64}, {64, 256}, {}, {}, {}};
  const std::string types = R"(["float", "", "float", "float", "", "", "", "Scalar", "Scalar", "Scalar", "Scalar"])";
  const std::string concrete = R"(["", "", "", "", "", "", "", "3", "0", "1.", "7."])";
  TraceBuilder b;
  b.on("400", "400");
  for (const std::int64_t number : {10, 11}) {
    b.sequence(number).op("fusedmlp::mlp", weights, types, {"fusedmlp::sm80::gemm"}, concrete);
  }
  for (const std::int64_t number : {11, 10}) {
    node(b, number, "_MlpBackward",
         {{"aten::mm", {{32, 64}, {64, 256}}},
          {"aten::gelu", {{32, 256}}},
          {"aten::mm", {{64, 32}, {32, 256}}},
          {"aten::mm", {{32, 64}, {64, 256}}},
          {"aten::gelu_backward", {{32, 256}, {32, 256}}},
          {"aten::mm", {{256, 32}, {32, 64}}},
          {"aten::mm", {{32, 256}, {256, 64}}}});
  }
  const std::vector<Instance> both = two_backwards(b);
  EXPECT_EQ(both.size(), 2u);
  for (const Instance& i : both) EXPECT_EQ(i.parts.size(), 7u);
}

TEST(MatchBackward, OfACompiledGraphIsSaidToBeLeftOut) {
  TraceBuilder b;
  forward(b, 10);
  node(b, 13, "CompiledFunctionBackward",
       {{"aten::mm", {{32, 64}, {64, 256}}}, {"aten::mm", {{32, 256}, {256, 64}}}});
  const Matches found = b.match();
  EXPECT_EQ(found.instances.size(), 1u);
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_EQ(found.warnings[0],
            "1 backward pass of compiled graphs was not searched for MLPs: one op holds the gradients of all layers");
}

TEST(MatchBackward, WithoutItsKernelsItIsLeftOutAndCounted) {
  TraceBuilder b;
  forward(b, 10);
  backward(b, 10, false);
  const Matches found = b.match();
  EXPECT_EQ(found.instances.size(), 1u);
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_EQ(found.warnings[0], "1 MLP left out: the trace holds only a part of it");
}

}  // namespace
}  // namespace fusedmlp::test
