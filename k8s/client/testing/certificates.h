// TestCertificates: a certificate authority of a test's own, a server certificate for a name, and client certificates.
//
// Threading: immutable after construction. Ownership: owns the OpenSSL objects.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace muster::k8s {

struct TestIdentity {
  std::string certificate_pem;
  std::string key_pem;
};

class TestCertificates {
 public:
  // The server's certificate is for `server_name`, as OpenSSL writes alternative names: "IP:127.0.0.1", "DNS:kubernetes".
  explicit TestCertificates(const std::string& server_name);
  ~TestCertificates();
  TestCertificates(const TestCertificates&) = delete;
  TestCertificates& operator=(const TestCertificates&) = delete;

  std::string authority_pem() const;
  // A client certificate with the common name `name`.
  TestIdentity Client(const std::string& name) const;
  // What a server listens with: shows its certificate, asks for the client's.
  SSL_CTX* server_context() const { return context_; }

 private:
  X509* Sign(EVP_PKEY* key, const std::string& name, const std::string& alternative_name) const;

  EVP_PKEY* authority_key_;
  X509* authority_;
  EVP_PKEY* server_key_;
  X509* server_;
  SSL_CTX* context_;
};

}  // namespace muster::k8s
