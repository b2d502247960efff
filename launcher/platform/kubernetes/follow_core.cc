#include "launcher/platform/kubernetes/follow_core.h"

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>

#include "launcher/job/fields.h"

namespace muster::kubernetes {
namespace {

using nlohmann::json;
using Kind = FollowAction::Kind;

// A terminal and a wrapper (timeout, make) may both pass on what was one request.
constexpr std::chrono::milliseconds kOnePress{20};

}  // namespace

std::string DeletionText(bool by_us) {
  return by_us ? "killed by the user" : "somebody has deleted the run from the cluster";
}

void FollowCore::Explain(const std::string& sentence, Actions* actions) {
  if (sentence == explained_) return;
  explained_ = sentence;
  actions->push_back({Kind::kNote, sentence});
}

FollowCore::Actions FollowCore::Connected() {
  Actions actions;
  if (!explained_.empty()) {
    actions.push_back(
        {Kind::kNote, answered_ ? "the coordinator answers again" : "the coordinator answers"});
  }
  explained_.clear();
  connected_ = answered_ = true;
  return actions;
}

FollowCore::Actions FollowCore::Line(const std::string& line) {
  if (over_ || line.empty()) return {};
  const json event = json::parse(line, nullptr, false);
  if (!event.is_object()) return {};
  if (FieldOr<std::string>(event, "event", "") == "finished") {
    over_ = true;
    return {{Kind::kEnd, line}};
  }
  if (const auto sequence = FieldOr<uint64_t>(event, "sequence", 0); sequence != 0) {
    if (sequence <= last_sequence_) return {};  // seen before the stream was cut
    last_sequence_ = sequence;
  }
  return {{Kind::kEvent, line}};
}

FollowCore::Actions FollowCore::Cut(const std::string& why) {
  Actions actions;
  if (connected_ && !over_) {
    Explain(fmt::format("the connection to the coordinator was cut ({}); connecting again", why),
            &actions);
  }
  connected_ = false;
  return actions;
}

FollowCore::Actions FollowCore::Looked(const RunLook& look) {
  Actions actions;
  started_ |= look.started;
  if (over_ || connected_) return actions;
  for (size_t begin = 0; begin < look.events.size();) {
    const size_t end = std::min(look.events.find('\n', begin), look.events.size());
    for (FollowAction& event : Line(look.events.substr(begin, end - begin))) {
      actions.push_back(std::move(event));
    }
    begin = end + 1;
  }
  const auto end = [&](Kind kind, const std::string& text) {
    over_ = true;
    actions.push_back({kind, text});
  };
  if (look.finished) {
    end(Kind::kEnd, *look.finished);
  } else if (look.gone) {
    end(Kind::kGone, DeletionText(deleting_));
  } else if (const auto failure = CoordinatorFailure(look.scene)) {
    end(Kind::kFailed, *failure);
  } else {
    Explain(WhyCoordinatorWaits(look.scene), &actions);
  }
  return actions;
}

FollowCore::Actions FollowCore::LookFailed(const Error& error) {
  Actions actions;
  if (!over_ && !connected_) {
    Explain("the cluster does not answer: " + error.message, &actions);
  }
  return actions;
}

FollowCore::Actions FollowCore::Sending(const std::string& sentence) {
  if (over_) return {};
  return {{Kind::kNote, sentence}};
}

FollowCore::Actions FollowCore::Sent(const std::string& sentence) {
  if (over_ || deleting_) return {};
  Actions actions{{Kind::kNote, sentence}};
  if (std::exchange(sending_, false) && detach_) {
    over_ = true;
    actions.push_back({Kind::kDetach, ""});
  }
  return actions;
}

FollowCore::Actions FollowCore::SendFailed(const Error& error) {
  if (over_ || deleting_) return {};
  const std::string text = "the program cannot be sent: " + error.ToString();
  if (!sending_) return {{Kind::kNote, text}};  // agents may have it
  over_ = true;
  return {{Kind::kFailed, text}};
}

FollowCore::Actions FollowCore::Signal(int number, TimePoint now) {
  if (over_) return {};
  if (sending_) {
    if (std::exchange(deleting_, true)) return {};
    ended_by_ = number;
    return {{Kind::kNote, "the program has not been sent: deleting the run"}, {Kind::kDelete, ""}};
  }
  if (number != SIGTERM) {
    over_ = true;
    left_by_ = number;
    return {{Kind::kDetach, ""}};
  }
  const bool first = ended_by_ == 0;
  if (!first && (deleting_ || now - ended_at_ < kOnePress)) return {};
  if (first) {
    ended_by_ = number;
    ended_at_ = now;
  }
  if (first && (answered_ || started_)) {
    return {{Kind::kNote, "stopping after this step (again to delete the run)"}, {Kind::kStop, ""}};
  }
  deleting_ = true;
  return {{Kind::kNote, first ? "nothing runs yet: deleting the run" : "deleting the run"},
          {Kind::kDelete, ""}};
}

}  // namespace muster::kubernetes
