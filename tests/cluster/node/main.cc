// process_node: one node of a test cluster; see process_node.h.
#include <csignal>
#include <cxxopts.hpp>
#include <iostream>

#include "k8s/client/config_loader.h"
#include "tests/cluster/node/process_node.h"

namespace muster::cluster {
namespace {

Status Main(int argc, char** argv) {
  cxxopts::Options options("process_node",
                           "Runs pods of a test cluster as processes of this machine.");
  const auto text = [] { return cxxopts::value<std::string>(); };
  options.add_options()("kubeconfig", "of an administrator, who acts as the node", text())(
      "name", "of the node", text())("address", "of the machine", text())(
      "folder", "for the logs of pods", text())("keys", "see LogServerOptions", text())(
      "launcher", "that pods see", text()->default_value(""))("adopt", "the Node exists already")(
      "api-server", "that pods see, HOST:PORT", text()->default_value("10.96.0.1:443"))(
      "gpu-driver", "of its GPUs, if it has some", text()->default_value(""))(
      "resources", "as JSON", text()->default_value("{}"))("labels", "as JSON",
                                                           text()->default_value("{}"));
  const auto given = options.parse(argc, argv);
  const auto get = [&](const char* name) { return given[name].as<std::string>(); };
  MUSTER_ASSIGN(k8s::ClientConfig config,
                k8s::LoadClientConfig({.kubeconfig = get("kubeconfig")},
                                      k8s::ConfigEnvironment::OfThisProcess()));
  // What a node may do is decided for the node, not for whoever runs this: certificates are too short for some names of nodes.
  config.user.impersonate = "system:node:" + get("name");
  config.user.impersonate_groups = {"system:nodes"};
  MUSTER_ASSIGN(const auto client, k8s::ApiClient::Create(std::move(config)));
  MUSTER_ASSIGN(const auto logs,
                LogServer::Create({.address = get("address"), .keys = get("keys")}));
  ProcessNode node(client.get(), logs.get(),
                   {.name = get("name"),
                    .address = get("address"),
                    .launcher = get("launcher"),
                    .folder = get("folder"),
                    .adopt = given.count("adopt") > 0,
                    .api_server = get("api-server"),
                    .gpu_driver = get("gpu-driver"),
                    .resources = nlohmann::json::parse(get("resources")),
                    .labels = nlohmann::json::parse(get("labels"))});
  return node.Run();
}

}  // namespace
}  // namespace muster::cluster

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == muster::cluster::kPodInit)
    return muster::cluster::RunPodInit();
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGCHLD, SIGUSR1}) sigaddset(&signals, number);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before there are threads to inherit it
  const muster::Status done = muster::cluster::Main(argc, argv);
  if (!done) std::cerr << "process_node: " << done.error().message << "\n";
  return done ? 0 : 1;
}
