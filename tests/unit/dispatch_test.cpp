#include "core/dispatch.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "core/device.h"
#include "unit/fixtures.h"

namespace fusedmlp::core {
namespace {

using test::ScopedEnv;

// A table whose predictions depend on the query as real ones do: "few" is cheap at few tokens, "many" needs
// more than 8, "never" never runs, "last" always does.
std::string always(const Query&) { return {}; }
std::size_t no_workspace(const Query&) { return 0; }
Status do_nothing(const Problem&, const RunArgs&, const DeviceInfo&) { return {}; }

const KernelEntry kTable[] = {
    {"few", "streams the weights", nullptr, always, no_workspace,
     [](const Query& q) {
       return Prediction{1e-6 * static_cast<double>(q.tokens), Bound::memory, Basis::measured};
     },
     do_nothing},
    {"many", "blocks of rows", nullptr,
     [](const Query& q) { return q.tokens > 8 ? std::string() : std::string("needs more than 8 tokens"); },
     no_workspace,
     [](const Query& q) {
       return Prediction{1e-5 + 1e-7 * static_cast<double>(q.tokens), Bound::compute, Basis::modelled};
     },
     do_nothing},
    {"never", "for another machine", nullptr, [](const Query&) { return std::string("needs AMX"); }, no_workspace,
     [](const Query&) { return Prediction{}; }, do_nothing},
    {"last", "the baseline", nullptr, always, no_workspace,
     [](const Query&) {
       return Prediction{1.0, Bound::overhead, Basis::modelled};
     },
     do_nothing},
};

class Dispatch : public ::testing::Test {
 protected:
  Query query(std::int64_t tokens) const { return {spec_, tokens, device_, 2, true}; }

  std::string chosen(std::int64_t tokens, const char* forced = nullptr) const {
    const auto list = candidates(query(tokens), kTable, forced);
    if (!list) return list.status().to_string();
    std::string name;
    for (const Candidate& c : *list) {
      if (c.chosen) name += c.entry->name;
    }
    return name;
  }

  MlpSpec spec_ = parse_spec("geglu:8x16,bf16").value();
  DeviceInfo device_ = test::make_device();
};

TEST_F(Dispatch, TheCheapestSupportedEntryWins) {
  EXPECT_EQ(chosen(1), "few");
  EXPECT_EQ(chosen(8), "few");
  EXPECT_EQ(chosen(100), "many");
}

TEST_F(Dispatch, EqualsGoToTheEarlierAndNanLoses) {
  const auto with = [](const char* name, double seconds) {
    KernelEntry entry = kTable[3];
    entry.name = name;
    entry.predict =
        seconds == 1.0
            ? [](const Query&) { return Prediction{1.0, Bound::compute, Basis::modelled}; }
            : [](const Query&) {
                return Prediction{std::numeric_limits<double>::quiet_NaN(), Bound::compute, Basis::modelled};
              };
    return entry;
  };
  const KernelEntry table[] = {with("nan", 0), with("first", 1.0), with("second", 1.0)};
  const auto list = candidates(query(1), table, nullptr);
  ASSERT_TRUE(list.ok());
  EXPECT_TRUE((*list)[1].chosen);
  EXPECT_FALSE((*list)[0].chosen || (*list)[2].chosen);
}

TEST_F(Dispatch, NoTokensTakeNoTimeAndAreNotAskedAbout) {
  KernelEntry entry = kTable[0];
  entry.predict = [](const Query& q) {
    EXPECT_GT(q.tokens, 0);
    return Prediction{};
  };
  const auto list = candidates(query(0), std::span(&entry, 1), nullptr);
  ASSERT_TRUE(list.ok());
  EXPECT_TRUE(list->front().chosen);
  EXPECT_EQ(list->front().prediction.seconds, 0);
}

TEST_F(Dispatch, AForcedEntryRuns) {
  EXPECT_EQ(chosen(1, "last"), "last");
  EXPECT_EQ(chosen(100, "few"), "few");
  EXPECT_EQ(chosen(1, ""), "few");
}

TEST_F(Dispatch, AForcedEntryThatCannotRunSaysWhy) {
  EXPECT_EQ(chosen(3, "many"),
            "unsupported: FUSEDMLP_KERNEL: many cannot run geglu:8x16,bf16 with 3 tokens: needs more than 8 tokens");
}

TEST_F(Dispatch, AnUnknownNameListsTheKnown) {
  EXPECT_EQ(chosen(3, "fastest"),
            "invalid_argument: FUSEDMLP_KERNEL: got \"fastest\", accepted: few, many, never, last");
}

TEST_F(Dispatch, NoEntryIsAStatus) {
  const auto list = candidates(query(1), {}, nullptr);
  EXPECT_EQ(list.status().to_string(), "unsupported: device: no kernel on cpu runs geglu:8x16,bf16");
  const auto unsupported = candidates(query(1), std::span(kTable).subspan(2, 1), nullptr);
  EXPECT_EQ(unsupported.status().code(), StatusCode::unsupported);
}

TEST_F(Dispatch, ReasonsAreInWords) {
  const auto list = candidates(query(2), kTable, nullptr).value();
  EXPECT_EQ(reason(list[0], list), "the fastest that can run it");
  EXPECT_EQ(reason(list[1], list), "needs more than 8 tokens");
  EXPECT_EQ(reason(list[2], list), "needs AMX");
  EXPECT_EQ(reason(list[3], list), "slower: 1000 ms against 2.0 us");
  EXPECT_EQ(list[2].prediction.basis, Basis::unsupported);
  const KernelEntry twins[] = {kTable[0], kTable[0]};
  const auto tie = candidates(query(2), twins, nullptr).value();
  EXPECT_EQ(reason(tie[1], tie), "no faster than few");
  const auto forced = candidates(query(2), kTable, "last").value();
  EXPECT_EQ(reason(forced[0], forced), "FUSEDMLP_KERNEL forces last");
  EXPECT_EQ(reason(forced[3], forced), "forced by FUSEDMLP_KERNEL");
}

TEST_F(Dispatch, ExplainIsATable) {
  const auto list = candidates(query(2), kTable, nullptr).value();
  EXPECT_EQ(explain_text(query(2), list),
            "geglu:8x16,bf16, 2 tokens, cpu (Test CPU, avx2), 2 threads\n"
            "physical limit 0.0 us, bound by compute (weights 0.8 KB, x and y 0.1 KB, 0.0 MFLOP)\n"
            "  kernel     predicted  basis        bound     reason                          what it does\n"
            "* few           2.0 us  measured     memory    the fastest that can run it     streams the weights\n"
            "  many               -  unsupported  -         needs more than 8 tokens        blocks of rows\n"
            "  never              -  unsupported  -         needs AMX                       for another machine\n"
            "  last         1000 ms  modelled     overhead  slower: 1000 ms against 2.0 us  the baseline\n");
}

TEST_F(Dispatch, AFrameworksOperationsRunWhereTheyAreFasterOrNothingIsFused) {
  device_.device = Device::cuda();
  device_.memory_bandwidth = 1e12;
  device_.launch_seconds = 1e-6;
  const KernelEntry table[] = {kTable[0], kTable[3]};  // a microsecond a token; the last
  const auto pays = [&](std::int64_t tokens, std::span<const KernelEntry> of, const char* forced = nullptr) {
    const auto list = candidates(query(tokens), of, forced).value();
    const Fusing gain = fusing(query(tokens), list);
    EXPECT_GT(gain.library_seconds, 0);
    const std::string text = explain_text(query(tokens), list);
    EXPECT_EQ(text.ends_with(" us: from PyTorch they run instead\n"), !gain.pays) << text;
    return gain.pays;
  };
  EXPECT_TRUE(pays(10, table));  // issuing them takes longer
  EXPECT_FALSE(pays(60, table));
  EXPECT_TRUE(pays(60, table, "few"));
  EXPECT_FALSE(pays(10, std::span(table, 1)));  // the table's last
  EXPECT_TRUE(pays(60, table, "last"));
  device_.device = Device::cpu();
  EXPECT_TRUE(fusing(query(60), candidates(query(60), table, nullptr).value()).pays);
}

TEST(Registry, TheReferenceIsLastAndRunsEverything) {
  const std::span<const KernelEntry> table = kernels(DeviceType::cpu);
  ASSERT_FALSE(table.empty());
  EXPECT_STREQ(table.back().name, "reference");
  const DeviceInfo device = describe(Device::cpu()).value();
  for (const char* text : {"identity:1x1", "gelu:3x5->7+bias,bf16", "swiglu_oai:16777216x16777216+bias,fp16"}) {
    const MlpSpec spec = parse_spec(text).value();
    for (const std::int64_t tokens : {std::int64_t{1}, std::int64_t{1} << 40}) {
      EXPECT_EQ(table.back().unsupported({spec, tokens, device, 1, false}), "");
    }
  }
}

TEST(Registry, NamesAreUnique) {
  for (const KernelEntry& a : kernels(DeviceType::cpu)) {
    for (const KernelEntry& b : kernels(DeviceType::cpu)) {
      EXPECT_TRUE(&a == &b || std::string_view(a.name) != b.name) << a.name;
    }
  }
}

TEST(Registry, EntriesShareOneLayout) {
  const PackedLayout* shared = packed_layout(DeviceType::cpu);
  for (const KernelEntry& entry : kernels(DeviceType::cpu)) {
    EXPECT_TRUE(entry.layout == nullptr || entry.layout == shared) << entry.name;
  }
}

TEST(Choose, FollowsTheEnvironmentAndTheQuery) {
  const DeviceInfo& device = **cpu_device();
  const MlpSpec spec = parse_spec("gelu:64x256").value();
  const Query query{spec, 4, device, 1, false};
  const ScopedEnv none("FUSEDMLP_KERNEL", nullptr);
  const KernelEntry* free_choice = choose(query).value();
  EXPECT_EQ(choose(query).value(), free_choice);
  {
    const ScopedEnv forced("FUSEDMLP_KERNEL", "reference");
    EXPECT_STREQ(choose(query).value()->name, "reference");
  }
  {
    const ScopedEnv unknown("FUSEDMLP_KERNEL", "no such kernel");
    const Result<const KernelEntry*> entry = choose(query);
    ASSERT_FALSE(entry.ok());
    EXPECT_EQ(entry.status().argument(), "FUSEDMLP_KERNEL");
    EXPECT_NE(entry.status().message().find("reference"), std::string::npos);
  }
  EXPECT_EQ(choose(query).value(), free_choice);
}

TEST(Choose, RemembersNothingThatDoesNotMatch) {
  const ScopedEnv none("FUSEDMLP_KERNEL", nullptr);
  const DeviceInfo& device = **cpu_device();
  const char* texts[] = {"gelu:64x256", "geglu:64x256", "gelu:64x256,bf16", "relu:768x3072", "swiglu:512x2048,fp16"};
  for (int round = 0; round < 3; ++round) {
    for (const char* text : texts) {
      const MlpSpec spec = parse_spec(text).value();
      for (const std::int64_t tokens : {1, 16, 300}) {
        for (const int threads : {1, 2}) {
          for (const bool packed : {false, true}) {
            const Query query{spec, tokens, device, threads, packed};
            const auto list = candidates(query).value();
            for (const Candidate& c : list) EXPECT_EQ(c.chosen, c.entry == choose(query).value());
          }
        }
      }
    }
  }
}

// A description of the caller's may change where it lies.
TEST(Choose, ACopyOfADescriptionIsAskedAboutAnew) {
  const ScopedEnv none("FUSEDMLP_KERNEL", nullptr);
  const MlpSpec spec = parse_spec("gelu:64x256").value();
  DeviceInfo device = **cpu_device();
  const Query query{spec, 4, device, 1, true};
  const KernelEntry* before = choose(query).value();
  device.isa = Isa::generic;
  EXPECT_STREQ(choose(query).value()->name, "reference");
  device.isa = (*cpu_device())->isa;
  EXPECT_EQ(choose(query).value(), before);
}

TEST(Choose, OnlyTheLibrarysOwnDescriptionsArePermanent) {
  const DeviceInfo& own = **cpu_device();
  EXPECT_TRUE(is_permanent(own));
  const DeviceInfo copy = own;
  EXPECT_FALSE(is_permanent(copy));
  for (const Device device : cuda_devices()) EXPECT_TRUE(is_permanent(**find_device(device)));
}

}  // namespace
}  // namespace fusedmlp::core
