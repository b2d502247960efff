#include "k8s/client/testing/certificates.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <atomic>

#include "runtime/base/check.h"

namespace muster::k8s {
namespace {

constexpr long kDaySeconds = 24 * 60 * 60;

EVP_PKEY* NewKey() {
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  MUSTER_CHECK(key != nullptr);
  return key;
}

void AddExtension(X509* certificate, X509* issuer, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  MUSTER_CHECK(extension != nullptr, "{}", value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// Valid from a day ago, for two days; not signed yet.
X509* NewCertificate(EVP_PKEY* key, const std::string& name) {
  static std::atomic<long> serial{1};
  X509* const certificate = X509_new();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -kDaySeconds);
  X509_gmtime_adj(X509_getm_notAfter(certificate), kDaySeconds);
  X509_set_pubkey(certificate, key);
  X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), NID_commonName, MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  return certificate;
}

template <typename Write>
std::string Pem(Write write) {
  BIO* const memory = BIO_new(BIO_s_mem());
  MUSTER_CHECK(write(memory) == 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  std::string text(data, size);
  BIO_free(memory);
  return text;
}

std::string PemOf(X509* certificate) {
  return Pem([&](BIO* memory) { return PEM_write_bio_X509(memory, certificate); });
}

}  // namespace

TestCertificates::TestCertificates(const std::string& server_name)
    : authority_key_(NewKey()), authority_(NewCertificate(authority_key_, "test authority")) {
  X509_set_issuer_name(authority_, X509_get_subject_name(authority_));
  AddExtension(authority_, authority_, NID_basic_constraints, "critical,CA:TRUE");
  MUSTER_CHECK(X509_sign(authority_, authority_key_, EVP_sha256()) > 0);
  server_key_ = NewKey();
  server_ = Sign(server_key_, "test server", server_name);
  context_ = SSL_CTX_new(TLS_server_method());
  SSL_CTX_use_certificate(context_, server_);
  SSL_CTX_use_PrivateKey(context_, server_key_);
  X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), authority_);
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
}

TestCertificates::~TestCertificates() {
  SSL_CTX_free(context_);
  X509_free(server_);
  X509_free(authority_);
  EVP_PKEY_free(server_key_);
  EVP_PKEY_free(authority_key_);
}

X509* TestCertificates::Sign(EVP_PKEY* key, const std::string& name,
                             const std::string& alternative_name) const {
  X509* const certificate = NewCertificate(key, name);
  X509_set_issuer_name(certificate, X509_get_subject_name(authority_));
  if (!alternative_name.empty()) {
    AddExtension(certificate, authority_, NID_subject_alt_name, alternative_name);
  }
  MUSTER_CHECK(X509_sign(certificate, authority_key_, EVP_sha256()) > 0);
  return certificate;
}

std::string TestCertificates::authority_pem() const { return PemOf(authority_); }

TestIdentity TestCertificates::Client(const std::string& name) const {
  EVP_PKEY* const key = NewKey();
  X509* const certificate = Sign(key, name, "");
  TestIdentity identity;
  identity.certificate_pem = PemOf(certificate);
  identity.key_pem = Pem([&](BIO* memory) {
    return PEM_write_bio_PrivateKey(memory, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
  X509_free(certificate);
  EVP_PKEY_free(key);
  return identity;
}

}  // namespace muster::k8s
