#include "k8s/client/http_loop.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace muster::k8s {
namespace {

constexpr int kLongestPollMs = 60'000;

Error Cancelled(const HttpTransfer& transfer) {
  return {Code::kCancelled, transfer.Name() + ": given up, the transport is closed", ""};
}

}  // namespace

Result<std::unique_ptr<HttpLoop>> HttpLoop::Create(int max_connections) {
  // Once in a process, and thread-safe as an initialisation of a static.
  static const CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (global != CURLE_OK) {
    return Err(Code::kInternal, "libcurl cannot be initialised: {}", curl_easy_strerror(global));
  }
  CURLM* const multi = curl_multi_init();
  if (multi == nullptr) return Err(Code::kInternal, "libcurl makes no multi handle");
  curl_multi_setopt(multi, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_MULTIPLEX));
  curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, static_cast<long>(max_connections));
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, static_cast<long>(max_connections));
  return std::unique_ptr<HttpLoop>(new HttpLoop(multi));
}

HttpLoop::HttpLoop(CURLM* multi)
    : multi_(multi), thread_([this](std::stop_token stop) { Run(std::move(stop)); }) {}

HttpLoop::~HttpLoop() {
  Close();
  curl_multi_cleanup(multi_);
}

void HttpLoop::Close() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  curl_multi_wakeup(multi_);
  thread_.join();
}

void HttpLoop::Add(std::shared_ptr<HttpTransfer> transfer) {
  Queue(What::kAdd, std::move(transfer));
}
void HttpLoop::Cancel(std::shared_ptr<HttpTransfer> transfer) {
  Queue(What::kCancel, std::move(transfer));
}
void HttpLoop::Resume(std::shared_ptr<HttpTransfer> transfer) {
  Queue(What::kResume, std::move(transfer));
}

void HttpLoop::Queue(What what, std::shared_ptr<HttpTransfer> transfer) {
  {
    MutexLock lock(mutex_);
    if (!closed_) {
      commands_.push_back({what, std::move(transfer)});
      transfer = nullptr;
    }
  }
  if (transfer != nullptr) {
    transfer->Fail(Cancelled(*transfer));
  } else {
    curl_multi_wakeup(multi_);
  }
}

void HttpLoop::Run(std::stop_token stop) {
  ::pthread_setname_np(::pthread_self(), "muster-http");
  // Signals are for the program's own threads. Without this, writing to a closed TLS connection would end the process: OpenSSL
  // raises SIGPIPE, and libcurl leaves that alone under CURLOPT_NOSIGNAL.
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  while (!stop.stop_requested()) {
    std::deque<Command> commands;
    {
      MutexLock lock(mutex_);
      commands.swap(commands_);
    }
    for (const Command& command : commands) Obey(command);
    int running = 0;
    curl_multi_perform(multi_, &running);
    CollectFinished();
    // A wake-up that came since the commands were taken ends this at once: libcurl keeps it.
    curl_multi_poll(multi_, nullptr, 0, kLongestPollMs, nullptr);
  }
  CancelAll();
}

void HttpLoop::Obey(const Command& command) {
  CURL* const handle = command.transfer->handle();
  if (command.what == What::kAdd) {
    Start(command.transfer);
  } else if (active_.find(handle) == active_.end()) {
    return;  // finished meanwhile
  } else if (command.what == What::kResume) {
    curl_easy_pause(handle, CURLPAUSE_CONT);
  } else {
    curl_multi_remove_handle(multi_, handle);
    active_.erase(handle);
  }
}

void HttpLoop::Start(const std::shared_ptr<HttpTransfer>& transfer) {
  const CURLMcode result = curl_multi_add_handle(multi_, transfer->handle());
  if (result == CURLM_OK) {
    active_.emplace(transfer->handle(), transfer);
  } else {
    transfer->Fail({Code::kInternal,
                    fmt::format("{}: {}", transfer->Name(), curl_multi_strerror(result)), ""});
  }
}

void HttpLoop::CollectFinished() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    CURL* const handle = message->easy_handle;
    const CURLcode result = message->data.result;  // the message is gone after the next call
    curl_multi_remove_handle(multi_, handle);
    const auto transfer = active_.extract(handle);
    if (!transfer.empty()) transfer.mapped()->Finish(result);
  }
}

void HttpLoop::CancelAll() {
  std::deque<Command> commands;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    commands.swap(commands_);
  }
  for (const auto& [handle, transfer] : active_) {
    curl_multi_remove_handle(multi_, handle);
    transfer->Fail(Cancelled(*transfer));
  }
  active_.clear();
  for (const Command& command : commands) {
    if (command.what == What::kAdd) command.transfer->Fail(Cancelled(*command.transfer));
  }
}

}  // namespace muster::k8s
