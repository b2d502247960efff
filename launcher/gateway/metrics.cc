#include "launcher/gateway/metrics.h"

#include <fmt/format.h>

#include <iterator>

namespace muster {
namespace {

void Declare(std::string& text, std::string_view name, std::string_view type,
             std::string_view help) {
  fmt::format_to(std::back_inserter(text), "# HELP {0} {2}\n# TYPE {0} {1}\n", name, type, help);
}

template <typename Number>
void Add(std::string& text, std::string_view name, std::string_view type, std::string_view help,
         Number value) {
  Declare(text, name, type, help);
  fmt::format_to(std::back_inserter(text), "{} {}\n", name, value);
}

}  // namespace

std::string MetricsText(const GatewayFigures& figures, const std::map<int, uint64_t>& answers) {
  std::string text;
  Add(text, "muster_step", "gauge", "Steps that are committed.", figures.step);
  Add(text, "muster_generation", "gauge", "Number of the membership.", figures.generation);
  Add(text, "muster_world_size", "gauge", "Members of the generation.", figures.world_size);
  Add(text, "muster_workers_wanted", "gauge", "Workers that the job would use.",
      figures.workers_wanted);
  Add(text, "muster_workers_ready", "gauge", "Workers that train.", figures.workers_ready);
  Add(text, "muster_membership_changes_total", "counter", "Changes of the membership.",
      figures.membership_changes);
  Add(text, "muster_steps_redone_total", "counter", "Steps that were computed again after a loss.",
      figures.steps_redone);
  Declare(text, "muster_http_requests_total", "counter", "Answers of this interface by status.");
  for (const auto& [status, count] : answers) {
    fmt::format_to(std::back_inserter(text), "muster_http_requests_total{{code=\"{}\"}} {}\n",
                   status, count);
  }
  return text;
}

}  // namespace muster
