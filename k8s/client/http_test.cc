#include "k8s/client/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <atomic>
#include <future>
#include <thread>

#include "k8s/client/testing/fake_server.h"

namespace muster::k8s {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

TimePoint Soon() { return MonotonicNow() + 60s; }

std::string Gzip(const std::string& text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = text.size();
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = packed.size();
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// Never the same for long, so that a lost or doubled piece shows.
std::string Pattern(size_t size) {
  std::string text;
  for (int i = 0; text.size() < size; ++i) text += std::to_string(i) + ",";
  text.resize(size);
  return text;
}

class HttpTest : public ::testing::Test {
 protected:
  static std::unique_ptr<HttpTransport> Transport(HttpOptions options = {}) {
    Result<std::unique_ptr<HttpTransport>> transport = HttpTransport::Create(std::move(options));
    EXPECT_TRUE(transport);
    return std::move(*transport);
  }
  HttpRequest Get(const std::string& path) const {
    HttpRequest request;
    request.url = server_.url() + path;
    request.deadline = Soon();
    return request;
  }
  // The rest of `stream`, and the longest piece that it came in.
  static std::string ReadAll(HttpStream& stream, size_t* longest = nullptr) {
    std::string all;
    while (true) {
      const Result<std::string> bytes = stream.Read(Soon());
      EXPECT_TRUE(bytes) << bytes.error().ToString();
      if (!bytes || bytes->empty()) return all;
      if (longest != nullptr) *longest = std::max(*longest, bytes->size());
      all += *bytes;
    }
  }

  FakeServer server_;
  std::unique_ptr<HttpTransport> transport_ = Transport();
};

TEST_F(HttpTest, SendsWhatItIsGivenAndKeepsTheConnection) {
  server_.ThenAnswer(201, "made", {"X-Thing: a b "});
  server_.ThenAnswer(404, "");
  HttpRequest post = Get("/things?x=1");
  post.method = "POST";
  post.body = "{}";
  post.headers = {"X-Mine: yes"};
  post.credentials = std::make_shared<Credentials>(Credentials{.token = "t0ken"});
  const Result<HttpResponse> made = transport_->Send(post);
  ASSERT_TRUE(made) << made.error().ToString();
  EXPECT_EQ(made->head.status, 201);
  EXPECT_EQ(made->head.version, 11);
  EXPECT_EQ(made->head.headers.at("x-thing"), "a b");
  EXPECT_EQ(made->body, "made");
  const Result<HttpResponse> missing = transport_->Send(Get("/no"));
  ASSERT_TRUE(missing);
  EXPECT_EQ(missing->head.status, 404);
  EXPECT_EQ(missing->body, "");

  const FakeRequest seen = server_.requests().at(0);
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.target, "/things?x=1");
  EXPECT_EQ(seen.body, "{}");
  EXPECT_EQ(seen.headers.at("x-mine"), "yes");
  EXPECT_EQ(seen.headers.at("authorization"), "Bearer t0ken");
  EXPECT_EQ(seen.headers.at("content-type"), "application/json");
  EXPECT_EQ(server_.connections(), 1);
}

TEST_F(HttpTest, AnswersAreDecompressed) {
  const std::string text = Pattern(100'000);
  server_.ThenAnswer(200, Gzip(text), {"Content-Encoding: gzip"});
  server_.ThenAnswer(200, "not gzip", {"Content-Encoding: gzip"});
  const Result<HttpResponse> response = transport_->Send(Get("/"));
  ASSERT_TRUE(response);
  EXPECT_EQ(response->body, text);
  EXPECT_EQ(server_.requests().at(0).headers.at("accept-encoding"), "gzip");
  const Result<HttpResponse> bad = transport_->Send(Get("/"));
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, Code::kDataLoss);
}

TEST_F(HttpTest, AnAnswerOverTheLimitIsAnErrorEvenIfItWasSmallOnTheWire) {
  server_.ThenAnswer(200, Gzip(std::string(8'000'000, 'x')), {"Content-Encoding: gzip"});
  HttpRequest request = Get("/large");
  request.max_body_bytes = 1'000'000;
  const Result<HttpResponse> response = transport_->Send(request);
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code, Code::kResourceExhausted);
  EXPECT_THAT(response.error().message, HasSubstr("larger than 1000000 bytes"));
}

TEST_F(HttpTest, ASilentServerIsGivenUpAtTheDeadline) {
  server_.Otherwise([](FakeExchange& exchange) { exchange.AwaitClientGone(); });
  HttpRequest request = Get("/silent?secret=1");
  request.deadline = MonotonicNow() + 50ms;
  const Result<HttpResponse> response = transport_->Send(request);
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code, Code::kDeadlineExceeded);
  EXPECT_EQ(response.error().message, "GET " + server_.url() + "/silent: no answer in time");
}

TEST_F(HttpTest, ABodyThatStopsInTheMiddleIsGivenUpAtTheDeadline) {
  server_.Then([](FakeExchange& exchange) {
    exchange.Raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    exchange.AwaitClientGone();
  });
  HttpRequest request = Get("/");
  request.deadline = MonotonicNow() + 50ms;
  const Result<HttpResponse> response = transport_->Send(request);
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code, Code::kDeadlineExceeded);
}

TEST_F(HttpTest, AStopTokenEndsTheWaitAndTheRequest) {
  std::promise<void> gone;
  server_.Then([&](FakeExchange& exchange) {
    exchange.AwaitClientGone();
    gone.set_value();
  });
  std::stop_source stop;
  HttpRequest request = Get("/");
  request.stop = stop.get_token();
  auto sent = std::async(std::launch::async, [&] { return transport_->Send(request); });
  ASSERT_TRUE(server_.AwaitRequests(1));
  stop.request_stop();
  const Result<HttpResponse> response = sent.get();
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code, Code::kCancelled);
  EXPECT_EQ(gone.get_future().wait_for(60s), std::future_status::ready);
}

TEST_F(HttpTest, DestroyingTheTransportEndsWhatWaits) {
  server_.Otherwise([](FakeExchange& exchange) { exchange.AwaitClientGone(); });
  auto sent = std::async(std::launch::async, [transport = transport_.get(), request = Get("/")] {
    return transport->Send(request);
  });
  ASSERT_TRUE(server_.AwaitRequests(1));
  transport_.reset();
  const Result<HttpResponse> response = sent.get();
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code, Code::kCancelled);
}

TEST_F(HttpTest, NobodyListeningAndACutConnectionAreUnavailable) {
  HttpRequest nobody = Get("/");
  nobody.url = "http://127.0.0.1:1/";
  nobody.credentials = std::make_shared<Credentials>(Credentials{.token = "s3cr3t"});
  const Result<HttpResponse> refused = transport_->Send(nobody);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_THAT(refused.error().ToString(), HasSubstr("is the server up"));
  EXPECT_THAT(refused.error().ToString(), Not(HasSubstr("s3cr3t")));

  server_.Then([](FakeExchange& exchange) {
    exchange.Raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    exchange.Close();
  });
  const Result<HttpResponse> cut = transport_->Send(Get("/"));
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, Code::kUnavailable);
}

TEST_F(HttpTest, AKeptConnectionThatTheServerClosedIsReplaced) {
  for (int i = 0; i < 3; ++i) {
    server_.Then([](FakeExchange& exchange) {
      exchange.Answer(200, "ok");
      exchange.Close();
    });
  }
  for (const char* method : {"GET", "POST", "GET"}) {
    HttpRequest request = Get("/");
    request.method = method;
    const Result<HttpResponse> response = transport_->Send(request);
    ASSERT_TRUE(response) << response.error().ToString();
    EXPECT_EQ(response->body, "ok");
  }
}

TEST_F(HttpTest, RedirectsAreNotFollowed) {
  server_.ThenAnswer(302, "", {"Location: http://127.0.0.1:1/elsewhere"});
  const Result<HttpResponse> response = transport_->Send(Get("/"));
  ASSERT_TRUE(response);
  EXPECT_EQ(response->head.status, 302);
}

TEST_F(HttpTest, HeadersWithLineBreaksAndBadUrlsAreRefused) {
  HttpRequest request = Get("/");
  request.headers = {"X-A: 1\r\nX-B: 2"};
  EXPECT_EQ(transport_->Send(request).error().code, Code::kInvalidArgument);
  request = Get("/");
  request.url = "file:///etc/passwd";
  EXPECT_EQ(transport_->Send(request).error().code, Code::kInvalidArgument);
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(HttpTest, AStreamIsReadAsItComes) {
  std::promise<void> go_on;
  server_.Then([&](FakeExchange& exchange) {
    exchange.Start(200);
    exchange.Chunk("one");
    go_on.get_future().wait_for(60s);
    exchange.Chunk("two");
    exchange.End();
  });
  const auto stream = transport_->Open(Get("/watch"));
  ASSERT_TRUE(stream);
  EXPECT_EQ((*stream)->head().status, 200);
  EXPECT_EQ((*stream)->Read(Soon()), "one");
  const Result<std::string> nothing = (*stream)->Read(MonotonicNow() + 20ms);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, Code::kDeadlineExceeded);
  go_on.set_value();
  EXPECT_EQ(ReadAll(**stream), "two");
  EXPECT_EQ((*stream)->Read(Soon()), "");
}

TEST_F(HttpTest, WhatCameBeforeACutIsReadFirst) {
  server_.Then([](FakeExchange& exchange) {
    exchange.Start(200);
    exchange.Chunk("one");
    exchange.Close();
  });
  const auto stream = transport_->Open(Get("/watch"));
  ASSERT_TRUE(stream);
  EXPECT_EQ((*stream)->Read(Soon()), "one");
  const Result<std::string> cut = (*stream)->Read(Soon());
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, Code::kUnavailable);
}

TEST_F(HttpTest, AStreamThatNobodyReadsIsHeldBackAndLosesNothing) {
  const std::string text = Pattern(size_t{24} << 20);
  for (const bool packed : {false, true}) {
    server_.Then([&](FakeExchange& exchange) {
      if (packed) {
        exchange.Answer(200, Gzip(text), {"Content-Encoding: gzip"});
      } else {
        exchange.Answer(200, text);
      }
    });
    const auto stream = transport_->Open(Get("/"));
    ASSERT_TRUE(stream);
    // Other requests go on meanwhile; they give the first one the time to fill all memory if it could.
    for (int i = 0; i < 50; ++i) {
      server_.ThenAnswer(200, "ok");
      ASSERT_TRUE(transport_->Send(Get("/other")));
    }
    size_t longest = 0;
    EXPECT_TRUE(ReadAll(**stream, &longest) == text);
    EXPECT_LE(longest, (size_t{1} << 20) + (size_t{64} << 10));
  }
}

TEST_F(HttpTest, DestroyingAStreamClosesItsConnection) {
  std::promise<void> gone;
  server_.Then([&](FakeExchange& exchange) {
    exchange.Start(200);
    exchange.AwaitClientGone();
    gone.set_value();
  });
  auto stream = transport_->Open(Get("/watch"));
  ASSERT_TRUE(stream);
  stream->reset();
  EXPECT_EQ(gone.get_future().wait_for(60s), std::future_status::ready);
}

TEST_F(HttpTest, AStreamMayOutliveTheTransport) {
  server_.Then([](FakeExchange& exchange) {
    exchange.Start(200);
    exchange.AwaitClientGone();
  });
  auto stream = transport_->Open(Get("/watch"));
  ASSERT_TRUE(stream);
  transport_.reset();
  const Result<std::string> bytes = (*stream)->Read(Soon());
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, Code::kCancelled);
}

TEST_F(HttpTest, OpensNoMoreConnectionsThanAllowed) {
  transport_ = Transport({.max_connections = 2});
  server_.Otherwise([](FakeExchange& exchange) { exchange.Answer(200, "ok"); });
  std::vector<std::jthread> senders;
  for (int i = 0; i < 20; ++i) {
    senders.emplace_back([&] { EXPECT_TRUE(transport_->Send(Get("/"))); });
  }
  senders.clear();
  EXPECT_LE(server_.connections(), 2);
  EXPECT_EQ(server_.requests().size(), 20U);
}

class HttpTlsTest : public ::testing::Test {
 protected:
  HttpTlsTest() {
    server_.Otherwise([](FakeExchange& exchange) { exchange.Answer(200, "ok"); });
  }

  Result<HttpResponse> Get(HttpTransport& transport, const TestIdentity& identity = {}) const {
    HttpRequest request;
    request.url = server_.url() + "/";
    request.deadline = Soon();
    request.credentials = std::make_shared<Credentials>(
        Credentials{.certificate_pem = identity.certificate_pem, .key_pem = identity.key_pem});
    return transport.Send(request);
  }
  Result<HttpResponse> GetWith(HttpOptions options, const TestIdentity& identity = {}) const {
    const auto transport = HttpTransport::Create(std::move(options));
    return Get(**transport, identity);
  }

  const std::shared_ptr<TestCertificates> certificates_ =
      std::make_shared<TestCertificates>("DNS:kubernetes");
  FakeServer server_{certificates_};
};

TEST_F(HttpTlsTest, TrustsTheAuthorityForTheNameAndNothingElse) {
  const std::string authority = certificates_->authority_pem();
  EXPECT_TRUE(GetWith({.certificate_authority_pem = authority, .tls_server_name = "kubernetes"}));
  EXPECT_EQ(server_.requests().at(0).headers.at("host"), server_.url().substr(8));
  EXPECT_TRUE(GetWith({.verify_server = false}));

  for (const HttpOptions& options :
       {HttpOptions{.certificate_authority_pem = authority},
        HttpOptions{.certificate_authority_pem = authority, .tls_server_name = "other"},
        HttpOptions{.tls_server_name = "kubernetes"}}) {
    const Result<HttpResponse> response = GetWith(options);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Code::kUnauthenticated) << response.error().ToString();
    EXPECT_THAT(response.error().hint, HasSubstr("certificate-authority and tls-server-name"));
  }
  // Another authority of the same name: OpenSSL gives the reason differently.
  const TestCertificates others("DNS:kubernetes");
  const Result<HttpResponse> other = GetWith(
      {.certificate_authority_pem = others.authority_pem(), .tls_server_name = "kubernetes"});
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().hint, HasSubstr("certificate-authority"));
  EXPECT_EQ(server_.requests().size(), 2U);
  const Result<HttpResponse> no_pem = GetWith({.certificate_authority_pem = "rubbish"});
  ASSERT_FALSE(no_pem);
  EXPECT_EQ(no_pem.error().code, Code::kInvalidArgument) << no_pem.error().ToString();
}

TEST_F(HttpTlsTest, AnotherClientCertificateGetsAnotherConnection) {
  const auto transport =
      HttpTransport::Create({.certificate_authority_pem = certificates_->authority_pem(),
                             .tls_server_name = "kubernetes"});
  ASSERT_TRUE(transport);
  const TestIdentity ann = certificates_->Client("ann");
  const TestIdentity bob = certificates_->Client("bob");
  for (const TestIdentity& identity : {ann, ann, bob, ann, TestIdentity{}}) {
    const Result<HttpResponse> response = Get(**transport, identity);
    ASSERT_TRUE(response) << response.error().ToString();
  }
  std::vector<std::string> names;
  for (const FakeRequest& request : server_.requests()) names.push_back(request.client_name);
  EXPECT_THAT(names, ::testing::ElementsAre("ann", "ann", "bob", "ann", ""));
  EXPECT_EQ(server_.connections(), 3);

  const Result<HttpResponse> mixed =
      GetWith({.verify_server = false}, {ann.certificate_pem, bob.key_pem});
  ASSERT_FALSE(mixed);
  EXPECT_EQ(mixed.error().code, Code::kInvalidArgument) << mixed.error().ToString();
}

}  // namespace
}  // namespace muster::k8s
