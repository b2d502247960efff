#include "k8s/client/http_transfer.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace muster::k8s {
namespace {

// libcurl hands over 16 KiB at a time, or more where it decompresses; a stream is held back beyond this.
constexpr size_t kMaxWaitingBytes = size_t{1} << 20;
constexpr size_t kMaxHeadBytes = size_t{256} << 10;

// libcurl's options are untyped; all of them go through here.
template <typename T>
Status Set(CURL* handle, CURLoption option, T value) {
  const CURLcode result = curl_easy_setopt(handle, option, value);
  if (result == CURLE_OK) return {};
  return Err(Code::kInternal, "libcurl refuses option {}: {}", static_cast<int>(option),
             curl_easy_strerror(result));
}

// libcurl copies it.
Status SetPem(CURL* handle, CURLoption option, const std::string& pem) {
  struct curl_blob blob = {const_cast<char*>(pem.data()), pem.size(), CURL_BLOB_COPY};
  return Set(handle, option, &blob);
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string_view Trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

struct UrlParts {
  std::string host;
  std::string port;
  std::string with_other_host;
};

// The parts of `url`, and the URL with `other_host` in place of its host.
Result<UrlParts> TakeApart(const std::string& url, const std::string& other_host) {
  const std::unique_ptr<CURLU, void (*)(CURLU*)> parsed(curl_url(), curl_url_cleanup);
  const auto get = [&](CURLUPart part, std::string* into) {
    char* text = nullptr;
    const CURLUcode result = curl_url_get(parsed.get(), part, &text, CURLU_DEFAULT_PORT);
    if (result == CURLUE_OK) *into = text;
    curl_free(text);
    return result;
  };
  UrlParts parts;
  CURLUcode result = curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0);
  if (result == CURLUE_OK) result = get(CURLUPART_HOST, &parts.host);
  if (result == CURLUE_OK) result = get(CURLUPART_PORT, &parts.port);
  if (result == CURLUE_OK)
    result = curl_url_set(parsed.get(), CURLUPART_HOST, other_host.c_str(), 0);
  if (result == CURLUE_OK) result = get(CURLUPART_URL, &parts.with_other_host);
  if (result == CURLUE_OK) return parts;
  return WithHint(Err(Code::kInvalidArgument, "bad URL {}: {}", url, curl_url_strerror(result)),
                  "check server and tls-server-name of the cluster");
}

struct Meaning {
  Code code;
  const char* hint;
};

Meaning MeaningOf(CURLcode result) {
  switch (result) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:  // while connecting; the rest has no time limit in libcurl
    case CURLE_PROXY:
      return {Code::kUnavailable,
              "is the server up, and right in the kubeconfig (server, proxy-url)?"};
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return {Code::kUnavailable, ""};
    case CURLE_SSL_CONNECT_ERROR:
      // Cut off in the handshake; or another authority of the same name (all of kubeadm's are called "kubernetes"), which OpenSSL
      // does not report as a failed verification.
      return {Code::kUnavailable,
              "if it stays so: check certificate-authority of the cluster in the kubeconfig"};
    case CURLE_PEER_FAILED_VERIFICATION:
      return {Code::kUnauthenticated,
              "check certificate-authority and tls-server-name of the cluster in the kubeconfig"};
    case CURLE_SSL_CACERT_BADFILE:
      return {Code::kInvalidArgument,
              "certificate-authority of the cluster holds no PEM certificate"};
    case CURLE_SSL_CERTPROBLEM:
      return {Code::kInvalidArgument,
              "client-certificate and client-key must be PEM and belong together"};
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
      return {Code::kInvalidArgument, "check server of the cluster in the kubeconfig"};
    case CURLE_BAD_CONTENT_ENCODING:
      return {Code::kDataLoss,
              "a proxy in between may be broken; disable-compression: true avoids it"};
    case CURLE_OUT_OF_MEMORY:
      return {Code::kResourceExhausted, ""};
    default:
      return {Code::kInternal, ""};
  }
}

}  // namespace

HttpTransfer::HttpTransfer(HttpRequest request)
    : request_(std::move(request)), handle_(curl_easy_init()) {}

HttpTransfer::~HttpTransfer() {
  curl_easy_cleanup(handle_);
  curl_slist_free_all(headers_);
  curl_slist_free_all(connect_to_);
}

Result<std::shared_ptr<HttpTransfer>> HttpTransfer::Create(const HttpOptions& options,
                                                           HttpRequest request) {
  std::shared_ptr<HttpTransfer> transfer(new HttpTransfer(std::move(request)));
  if (transfer->handle_ == nullptr) return Err(Code::kInternal, "libcurl makes no handle");
  MUSTER_TRY(transfer->Configure(options));
  return transfer;
}

std::string HttpTransfer::Name() const {
  return fmt::format("{} {}", request_.method, request_.url.substr(0, request_.url.find('?')));
}

Status HttpTransfer::AddHeader(const std::string& line) {
  if (line.find_first_of("\r\n") != std::string::npos) {
    return Err(Code::kInvalidArgument, "{}: a header with a line break in it", Name());
  }
  curl_slist* const longer = curl_slist_append(headers_, line.c_str());
  if (longer == nullptr) return Err(Code::kResourceExhausted, "out of memory");
  headers_ = longer;
  return {};
}

Status HttpTransfer::Configure(const HttpOptions& options) {
  MUSTER_TRY(Set(handle_, CURLOPT_URL, request_.url.c_str()));
  MUSTER_TRY(Set(handle_, CURLOPT_PROTOCOLS_STR, "http,https"));
  MUSTER_TRY(Set(handle_, CURLOPT_PRIVATE, this));
  MUSTER_TRY(Set(handle_, CURLOPT_ERRORBUFFER, error_text_));
  MUSTER_TRY(Set(handle_, CURLOPT_NOSIGNAL, 1L));
  MUSTER_TRY(Set(handle_, CURLOPT_USERAGENT, "muster"));
  const auto connect = std::chrono::ceil<std::chrono::milliseconds>(options.connect_timeout);
  MUSTER_TRY(Set(handle_, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(connect.count())));
  // Finds out that a silent watch has nobody at its other end any more.
  MUSTER_TRY(Set(handle_, CURLOPT_TCP_KEEPALIVE, 1L));
  MUSTER_TRY(Set(handle_, CURLOPT_TCP_KEEPIDLE, 30L));
  MUSTER_TRY(Set(handle_, CURLOPT_TCP_KEEPINTVL, 10L));
  MUSTER_TRY(
      Set(handle_, CURLOPT_HTTP_VERSION,
          static_cast<long>(options.http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1)));
  // Rather wait until a new connection turns out to be shared than open one for each request.
  MUSTER_TRY(Set(handle_, CURLOPT_PIPEWAIT, options.http2 ? 1L : 0L));
  MUSTER_TRY(Set(handle_, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L));
  if (!options.proxy_url.empty()) {
    MUSTER_TRY(Set(handle_, CURLOPT_PROXY, options.proxy_url.c_str()));
  }
  if (options.compression) MUSTER_TRY(Set(handle_, CURLOPT_ACCEPT_ENCODING, "gzip"));
  MUSTER_TRY(Set(handle_, CURLOPT_HEADERFUNCTION, &HttpTransfer::OnHeader));
  MUSTER_TRY(Set(handle_, CURLOPT_HEADERDATA, this));
  MUSTER_TRY(Set(handle_, CURLOPT_WRITEFUNCTION, &HttpTransfer::OnBody));
  MUSTER_TRY(Set(handle_, CURLOPT_WRITEDATA, this));
  MUSTER_TRY(ConfigureTls(options));
  MUSTER_TRY(ConfigureBody());
  for (const std::string& header : request_.headers) MUSTER_TRY(AddHeader(header));
  return Set(handle_, CURLOPT_HTTPHEADER, headers_);
}

Status HttpTransfer::ConfigureTls(const HttpOptions& options) {
  MUSTER_TRY(Set(handle_, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2)));
  MUSTER_TRY(Set(handle_, CURLOPT_SSL_VERIFYPEER, options.verify_server ? 1L : 0L));
  MUSTER_TRY(Set(handle_, CURLOPT_SSL_VERIFYHOST, options.verify_server ? 2L : 0L));
  if (!options.certificate_authority_pem.empty()) {
    MUSTER_TRY(SetPem(handle_, CURLOPT_CAINFO_BLOB, options.certificate_authority_pem));
    // Else the system's authorities would be trusted besides.
    MUSTER_TRY(Set(handle_, CURLOPT_CAPATH, static_cast<const char*>(nullptr)));
  }
  if (!options.tls_server_name.empty()) MUSTER_TRY(UseServerName(options.tls_server_name));
  if (request_.credentials == nullptr) return {};
  const Credentials& us = *request_.credentials;
  if (!us.certificate_pem.empty()) {
    MUSTER_TRY(SetPem(handle_, CURLOPT_SSLCERT_BLOB, us.certificate_pem));
    MUSTER_TRY(SetPem(handle_, CURLOPT_SSLKEY_BLOB, us.key_pem));
  }
  if (!us.token.empty()) return AddHeader("Authorization: Bearer " + us.token);
  if (!us.username.empty()) {
    return AddHeader("Authorization: Basic " + EncodeBase64(us.username + ":" + us.password));
  }
  return {};
}

// libcurl knows no option for the name in the certificate: the URL gets that name, and the connection goes to the real host.
Status HttpTransfer::UseServerName(const std::string& name) {
  MUSTER_ASSIGN(const UrlParts parts, TakeApart(request_.url, name));
  MUSTER_TRY(Set(handle_, CURLOPT_URL, parts.with_other_host.c_str()));
  connect_to_ = curl_slist_append(nullptr, fmt::format("::{}:{}", parts.host, parts.port).c_str());
  MUSTER_TRY(Set(handle_, CURLOPT_CONNECT_TO, connect_to_));
  return AddHeader(fmt::format("Host: {}:{}", parts.host, parts.port));
}

Status HttpTransfer::ConfigureBody() {
  if (request_.body.empty() && request_.method == "GET") return {};
  MUSTER_TRY(Set(handle_, CURLOPT_POSTFIELDS, request_.body.c_str()));
  MUSTER_TRY(
      Set(handle_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body.size())));
  MUSTER_TRY(Set(handle_, CURLOPT_CUSTOMREQUEST, request_.method.c_str()));
  // Else libcurl waits up to a second for a "100 Continue" before it sends a large body.
  MUSTER_TRY(AddHeader("Expect:"));
  const bool typed =
      std::any_of(request_.headers.begin(), request_.headers.end(),
                  [](const auto& h) { return Lower(h).starts_with("content-type:"); });
  return typed ? Status() : AddHeader("Content-Type: application/json");
}

size_t HttpTransfer::OnHeader(char* data, size_t size, size_t count, void* self) {
  const bool taken = static_cast<HttpTransfer*>(self)->TakeHeader({data, size * count});
  return taken ? size * count : 0;
}

bool HttpTransfer::TakeHeader(std::string_view line) {
  MutexLock lock(mutex_);
  head_bytes_ += line.size();
  if (head_bytes_ > kMaxHeadBytes) return false;
  if (line.starts_with("HTTP/")) {
    head_ = {};  // of a "100 Continue" before, nothing stays
  } else if (Trimmed(line).empty()) {
    long status = 0;
    long version = 0;
    curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(handle_, CURLINFO_HTTP_VERSION, &version);
    head_.status = static_cast<int>(status);
    head_.version = version == CURL_HTTP_VERSION_2_0 ? 20 : 11;
    have_head_ = status >= 200;
    changed_.notify_all();
  } else if (const size_t colon = line.find(':'); colon != std::string_view::npos && !have_head_) {
    head_.headers[Lower(line.substr(0, colon))] = Trimmed(line.substr(colon + 1));
  }
  return true;
}

size_t HttpTransfer::OnBody(char* data, size_t size, size_t count, void* self) {
  auto* const transfer = static_cast<HttpTransfer*>(self);
  MutexLock lock(transfer->mutex_);
  if (transfer->body_.size() >= kMaxWaitingBytes) {
    transfer->held_back_ = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  transfer->body_.append(data, size * count);
  transfer->changed_.notify_all();
  return size * count;
}

Error HttpTransfer::ErrorOf(CURLcode result) const {
  const Meaning meaning = MeaningOf(result);
  const char* text = error_text_[0] != '\0' ? error_text_ : curl_easy_strerror(result);
  return {meaning.code, fmt::format("{}: {}", Name(), text), meaning.hint};
}

void HttpTransfer::Finish(CURLcode result) {
  if (result != CURLE_OK) return Fail(ErrorOf(result));
  MutexLock lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

void HttpTransfer::Fail(Error error) {
  MutexLock lock(mutex_);
  done_ = true;
  error_ = std::move(error);
  changed_.notify_all();
}

Result<HttpHead> HttpTransfer::AwaitHead(TimePoint until) {
  MutexLock lock(mutex_);
  const bool ready = changed_.wait_until(mutex_, request_.stop, until,
                                         [this]() REQUIRES(mutex_) { return have_head_ || done_; });
  if (have_head_) return head_;
  if (error_) return tl::unexpected<Error>(*error_);
  if (ready) return Err(Code::kUnavailable, "{}: the answer has no head", Name());
  if (request_.stop.stop_requested()) return Err(Code::kCancelled, "{}: given up", Name());
  return Err(Code::kDeadlineExceeded, "{}: no answer in time", Name());
}

Result<std::string> HttpTransfer::Take(TimePoint until, bool* resume) {
  MutexLock lock(mutex_);
  const bool ready = changed_.wait_until(
      mutex_, request_.stop, until, [this]() REQUIRES(mutex_) { return !body_.empty() || done_; });
  *resume = std::exchange(held_back_, false);
  if (request_.stop.stop_requested()) return Err(Code::kCancelled, "{}: given up", Name());
  if (!body_.empty()) return std::exchange(body_, {});
  if (error_) return tl::unexpected<Error>(*error_);
  if (ready) return std::string();
  return Err(Code::kDeadlineExceeded, "{}: nothing came in time", Name());
}

}  // namespace muster::k8s
