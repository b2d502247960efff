// docs/job-file.md and docs/examples: what users read is what the launcher does. MUSTER_REWRITE=1 writes the table anew.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "launcher/jobfile/job_file.h"
#include "launcher/jobfile/schema.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

constexpr std::string_view kPage = "docs/job-file.md";
constexpr std::string_view kBegin = "<!-- table: begin -->\n";
constexpr std::string_view kEnd = "<!-- table: end -->\n";

std::string Table() {
  std::string table = "| key | value | default | what it does |\n|---|---|---|---|\n";
  for (const Field& field : JobFileFields()) {
    const std::string standard(field.required ? "required" : field.standard);
    table += fmt::format("| `{}` | {} | {} | {}{} |\n", field.path, TypeText(field), standard,
                         field.help, field.kubernetes ? " (Kubernetes only)" : "");
  }
  return table;
}

TEST(Page, HasTheTableOfTheSchema) {
  const auto page = ReadFile(kPage);
  ASSERT_TRUE(page) << page.error().ToString();
  const size_t begin = page->find(kBegin);
  const size_t end = page->find(kEnd);
  ASSERT_TRUE(begin != page->npos && end != page->npos && begin < end);
  const size_t table = begin + kBegin.size();
  if (std::getenv("MUSTER_REWRITE") != nullptr) {
    ASSERT_TRUE(WriteFileAtomically(kPage, page->substr(0, table) + Table() + page->substr(end)));
    return;
  }
  EXPECT_EQ(page->substr(table, end - table), Table()) << "MUSTER_REWRITE=1 writes it anew";
}

TEST(Page, HasExamplesThatAreValid) {
  int examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator("docs/examples")) {
    const auto text = ReadFile(entry.path());
    ASSERT_TRUE(text);
    const auto job = ParseJobFile(*text);
    EXPECT_TRUE(job) << FormatErrors(entry.path().string(), job.error());
    ++examples;
  }
  EXPECT_GE(examples, 2);
}

TEST(Page, ShowsOnlyFilesThatAreValid) {
  const auto page = ReadFile(kPage);
  ASSERT_TRUE(page);
  constexpr std::string_view kFence = "```yaml\n";
  int shown = 0;
  for (size_t at = page->find(kFence); at != page->npos; at = page->find(kFence, at)) {
    at += kFence.size();
    const std::string text = page->substr(at, page->find("```", at) - at);
    const auto job = ParseJobFile(text);
    EXPECT_TRUE(job) << text << FormatErrors(kPage, job.error());
    ++shown;
  }
  EXPECT_GE(shown, 2);
}

}  // namespace
}  // namespace muster
