#include "k8s/client/http.h"

#include <utility>

#include "k8s/client/http_loop.h"
#include "k8s/client/http_transfer.h"

namespace muster::k8s {

HttpStream::HttpStream(std::shared_ptr<HttpLoop> loop, std::shared_ptr<HttpTransfer> transfer,
                       HttpHead head)
    : loop_(std::move(loop)), transfer_(std::move(transfer)), head_(std::move(head)) {}

HttpStream::~HttpStream() { loop_->Cancel(transfer_); }

Result<std::string> HttpStream::Read(TimePoint until) {
  bool resume = false;
  Result<std::string> bytes = transfer_->Take(until, &resume);
  if (resume) loop_->Resume(transfer_);
  return bytes;
}

Result<std::unique_ptr<HttpTransport>> HttpTransport::Create(HttpOptions options) {
  MUSTER_ASSIGN(std::unique_ptr<HttpLoop> loop, HttpLoop::Create(options.max_connections));
  return std::unique_ptr<HttpTransport>(new HttpTransport(std::move(options), std::move(loop)));
}

HttpTransport::HttpTransport(HttpOptions options, std::shared_ptr<HttpLoop> loop)
    : options_(std::move(options)), loop_(std::move(loop)) {}

HttpTransport::~HttpTransport() { loop_->Close(); }

Result<std::unique_ptr<HttpStream>> HttpTransport::Open(HttpRequest request) {
  const TimePoint deadline = request.deadline;
  MUSTER_ASSIGN(std::shared_ptr<HttpTransfer> transfer,
                HttpTransfer::Create(options_, std::move(request)));
  // From here on nothing of ours is used: we may be destroyed while this waits.
  const std::shared_ptr<HttpLoop> loop = loop_;
  loop->Add(transfer);
  Result<HttpHead> head = transfer->AwaitHead(deadline);
  if (!head) {
    loop->Cancel(transfer);
    return tl::unexpected<Error>(std::move(head.error()));
  }
  return std::make_unique<HttpStream>(loop, std::move(transfer), std::move(*head));
}

Result<HttpResponse> HttpTransport::Send(HttpRequest request) {
  const TimePoint deadline = request.deadline;
  const size_t limit = request.max_body_bytes;
  const std::string what = request.method + " " + request.url.substr(0, request.url.find('?'));
  MUSTER_ASSIGN(const std::unique_ptr<HttpStream> stream, Open(std::move(request)));
  HttpResponse response{stream->head(), {}};
  while (true) {
    MUSTER_ASSIGN(const std::string bytes, stream->Read(deadline));
    if (bytes.empty()) return response;
    if (response.body.size() + bytes.size() > limit) {
      return WithHint(
          Err(Code::kResourceExhausted, "{}: the answer is larger than {} bytes", what, limit),
          "ask for less at a time, or by a selector");
    }
    response.body += bytes;
  }
}

}  // namespace muster::k8s
