#include <nlohmann/json.hpp>

#include "launcher/agent/agent.h"
#include "launcher/job/suggest.h"
#include "launcher/platform/kubernetes/cluster_coordinator.h"
#include "launcher/platform/kubernetes/pod_agent.h"
#include "launcher/rendezvous/run_coordinator.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/text.h"
#include "launcher/verbs/verb.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

const OptionSpec kOutput{'o', "output", "json|text", "json: only JSON on stdout"};
const OptionSpec kHelp{'h', "help", "", "this text"};
const OptionSpec kFollow{'f', "follow", "", "go on until the job has ended"};
const OptionSpec kPlatform{0, "platform", "local|kubernetes", "where this runs"};
const OptionSpec kJobDir{0, "job-dir", "DIR", "the job's folder"};

// The hidden verbs: in a pod the environment says what options say elsewhere.
Result<int> CoordinatorVerb(const Invocation& invocation) {
  MUSTER_ASSIGN(const bool in_pod, IsForKubernetes(invocation));
  if (!in_pod) return RunCoordinator(invocation.Get("job-dir"));
  InitLog("coordinator");
  return kubernetes::RunClusterCoordinator();
}

Result<int> AgentVerb(const Invocation& invocation) {
  MUSTER_ASSIGN(const bool in_pod, IsForKubernetes(invocation));
  if (in_pod) return kubernetes::RunPodAgent();
  const std::string slot = invocation.Get("slot");
  if (!IsJobName(slot)) return Err(Code::kInvalidArgument, "--slot is \"{}\", no slot's id", slot);
  InitLog("agent " + slot);
  AgentPlace place;
  if (invocation.Has("listen")) {
    place = {.listen_address = invocation.Get("listen"), .in_pod = true, .has_neighbours = true};
    place.shares_at = invocation.Get("shares-at");
    return RunAgent(invocation.Get("job-dir"), slot, place);
  }
  MUSTER_TRY(RunAgent(invocation.Get("job-dir"), slot, place));
  return 0;
}

// What says how to run a job: `run` and `plan` take the same.
std::vector<OptionSpec> RunOptions() {
  return {
      {0, "name", "NAME", "the job's name (default: the program's, with a suffix)"},
      {'w', "workers", "N|MIN:MAX",
       "workers to train with, 1 to 4096 (default: one a core, at most 4; with --device cuda one a "
       "GPU)"},
      {0, "platform", "local|kubernetes", "where to run (default: local)"},
      {'f', "file", "JOB.yaml", "the job as a file; flags win over it (docs/job-file.md)"},
      {0, "send", "PATH",
       "a file or folder that the program needs, besides `files` of the job file; again for more"},
      {0, "collectives", "auto|host|nccl|mpi", "how gradients are summed (default: auto)"},
      {0, "device", "auto|cpu|cuda[:N]",
       "what workers compute on (default: auto, a GPU if there is one and the program can)"},
      {0, "reduce", "exact|float", "exact: same bits for any number of workers (default)"},
      {0, "checkpoint", "DIR", "keep checkpoints here"},
      {0, "checkpoint-every", "STEPS", "steps between checkpoints (default: 100)"},
      {0, "resume", "", "start from the newest checkpoint in --checkpoint"},
      {'d', "detach", "", "return once the job runs; it goes on without the terminal"},
      {0, "heartbeat-timeout-ms", "MS",
       "silence after which a worker is evicted, 100 to 600000 (default: 3000)"},
      {0, "step-timeout-ms", "MS", "longest step of a worker, 100 to 86400000 (default: 60000)"},
      {0, "start-timeout-ms", "MS",
       "longest wait for enough workers, 100 to 86400000 (default: 60000)"},
      {'y', "yes", "", "ask nothing (local jobs never ask)"},
      kOutput,
      kHelp};
}

std::vector<OptionSpec> Joined(std::vector<OptionSpec> options,
                               const std::vector<OptionSpec>& more) {
  // Before --output and --help, which come last everywhere.
  options.insert(options.end() - 2, more.begin(), more.end());
  return options;
}

std::vector<OptionSpec> RunVerbOptions() {
  std::vector<OptionSpec> options = Joined(RunOptions(), ClusterOptions());
  options = Joined(std::move(options), ImageOptions());
  return Joined(std::move(options),
                {{0, "dry-run", "", "Kubernetes: have the cluster check all objects, make none"}});
}

std::vector<OptionSpec> DoctorOptions() {
  const OptionSpec platform{0, "platform", "local|kubernetes", "what to check (default: local)"};
  return Joined(Joined({platform, kOutput, kHelp}, ClusterOptions()), {ImageOptions().back()});
}

Verb RunVerb() {
  return {.name = "run",
          .usage = "[OPTIONS] [-f JOB.yaml] [-- PROGRAM [ARGS...]]",
          .summary = "start a training job and follow it",
          .details =
              "Everything after `--` is the program and its own arguments, verbatim. A PROGRAM "
              "without a slash is looked up in\n"
              "PATH, then beside the launcher. Ctrl-C stops the job after its step, a second one "
              "kills it.\n"
              "On Kubernetes (docs/kubernetes.md) Ctrl-C leaves the job running and says how to go "
              "on; SIGTERM stops it, a second\n"
              "one deletes it.\n"
              "There the program and the files named are sent along from this machine, unless the "
              "job file names an image with the\n"
              "program.\n"
              "A job file says the same as flags do, and what a cluster needs besides; `launcher "
              "schema` lists its keys, flags win\n"
              "over it, and its paths count from its folder.\n"
              "Exit codes: 0 done or stopped, 1 internal, 2 configuration, 3 the job failed, 4 too "
              "few workers in time,\n"
              "5 cluster not reached or forbidden, 6 no usable checkpoint, 130 and 143 ended by a "
              "signal.\n\n"
              "Examples:\n"
              "  launcher run --workers 4 -- digits --steps 400\n"
              "  launcher run --workers 2:8 --checkpoint ckpt --detach -- ./train --data d\n"
              "  launcher run -f job.yaml --workers 2\n"
              "  launcher run --workers 3 --checkpoint ckpt --resume -o json -- ./train\n"
              "  launcher run --platform kubernetes -n research -f job.yaml --dry-run\n",
          .options = RunVerbOptions(),
          .takes_program = true,
          .run = RunJob};
}

Verb PlanVerb() {
  return {.name = "plan",
          .usage = "[OPTIONS] [-f JOB.yaml] [-- PROGRAM [ARGS...]]",
          .summary = "say what `run` would do with the same arguments, and start nothing",
          .details =
              "Shows workers, processes, the program found, where training would begin, and where "
              "each value comes from; for Kubernetes the pods and what each asks for. No cluster "
              "is asked: for that there is\n"
              "`launcher run --dry-run`. Exit code 2 if `run` would refuse.\n"
              "Example: launcher plan -f job.yaml --workers 2\n",
          .options = RunVerbOptions(),
          .takes_program = true,
          .run = ShowPlan};
}

Verb RenderVerb() {
  std::vector<OptionSpec> options = RunOptions();
  options.insert(
      options.begin(),
      {{'n', "namespace", "NS", "where the objects are (default: default)"},
       {0, "image", "IMAGE", "image of all containers; over that of the job file"},
       {0, "service-account", "NAME", "run the coordinator as this one; none is made for it"},
       {0, "rbac", "", "print only what an administrator gives to people who run jobs"},
       {0, "user", "NAME", "with --rbac: who gets the rights (default: a placeholder)"}});
  return {.name = "render",
          .usage = "[OPTIONS] [-f JOB.yaml] [-- PROGRAM [ARGS...]]",
          .summary = "print the Kubernetes objects of a job, and contact nobody",
          .details =
              "For reading and for policy checks: YAML, or a List with -o json. The objects are "
              "those that a run makes, with one pod\n"
              "of each pool. What is not known before has a placeholder: the run's id is all "
              "zeros, and <...> stands for what the API\n"
              "server gives (docs/kubernetes.md). So it is not for `kubectl apply`, except with "
              "--rbac.\n\n"
              "Examples:\n"
              "  launcher render -f job.yaml --namespace research\n"
              "  launcher render -f job.yaml -o json | jq '.items[] | select(.kind == \"Pod\")'\n"
              "  launcher render --rbac --namespace research --user ada | kubectl apply -f -\n",
          .options = options,
          .takes_program = true,
          .run = ShowObjects};
}

std::vector<Verb> MakeVerbs() {
  return {
      RunVerb(),
      PlanVerb(),
      RenderVerb(),
      {.name = "schema",
       .usage = "[OPTIONS]",
       .summary = "list the keys of a job file",
       .details = "With -o json: a JSON Schema, for editors.\nExample: launcher schema -o json > "
                  "muster.schema.json\n",
       .options = {kOutput, kHelp},
       .run = ShowSchema},
      {.name = "ps",
       .usage = "[OPTIONS]",
       .summary = "list the jobs on this machine",
       .details = "Examples: launcher ps -o json, launcher ps --platform kubernetes -n research\n",
       .options =
           Joined({{0, "platform", "local|kubernetes", "kubernetes: the runs in a namespace"},
                   kOutput,
                   kHelp},
                  ClusterOptions()),
       .run = ListJobs},
      {.name = "status",
       .usage = "[JOB] [OPTIONS]",
       .summary = "show how a job is doing, and each of its workers",
       .details = "Without JOB: the one that runs, else the newest.\nExample: launcher status "
                  "digits-7f3a -o json\n",
       .options = Joined({kOutput, kHelp}, ClusterOptions()),
       .max_operands = 1,
       .run = ShowStatus},
      {.name = "top",
       .usage = "[JOB] [OPTIONS]",
       .summary = "show it again and again, the slowest workers first, until the job has ended",
       .details = "Ctrl-C leaves. With -o json: a status object a line.\nExample: launcher top "
                  "digits-7f3a --every 5\n",
       .options = Joined(
           {{0, "every", "SECONDS", "between two looks, 1 to 3600 (default: 1)"}, kOutput, kHelp},
           ClusterOptions()),
       .max_operands = 1,
       .run = ShowTop},
      {.name = "events",
       .usage = "[JOB] [OPTIONS]",
       .summary = "show what happened to a job: each change, its cause and its cost",
       .details = "Example: launcher events digits-7f3a -f\n",
       .options = Joined({kFollow, kOutput, kHelp}, ClusterOptions()),
       .max_operands = 1,
       .run = ShowEvents},
      {.name = "logs",
       .usage = "[JOB] [OPTIONS]",
       .summary = "show what the workers have printed",
       .details = "Each line begins with its worker's id.\nExample: launcher logs digits-7f3a -f "
                  "--ranks 0,3\n",
       .options = Joined({kFollow,
                          {0, "ranks", "0,3", "only the workers of these ranks"},
                          {0, "workers", "w-0,w-3", "only these workers"},
                          kOutput,
                          kHelp},
                         ClusterOptions()),
       .max_operands = 1,
       .run = ShowLogs},
      {.name = "resize",
       .usage = "[JOB] N|MIN:MAX [OPTIONS]",
       .summary = "change the number of workers of a running job",
       .details = "No step is lost and no worker that stays is restarted.\nExample: launcher "
                  "resize digits-7f3a 8\n",
       .options = Joined({kOutput, kHelp}, ClusterOptions()),
       .max_operands = 2,
       .run = ResizeJob},
      {.name = "stop",
       .usage = "[JOB] [OPTIONS]",
       .summary = "end a job after its step, with a checkpoint if one is configured",
       .details =
           "Returns when nothing of the job runs any more.\nExample: launcher stop digits-7f3a\n",
       .options = Joined({{0, "now", "", "do not wait for the step, write no checkpoint"},
                          {'y', "yes", "", "Kubernetes, with --now: ask nothing"},
                          kOutput,
                          kHelp},
                         ClusterOptions()),
       .max_operands = 1,
       .run = StopJob},
      {.name = "ledger",
       .usage = "[JOB] [OPTIONS]",
       .summary = "prove that each sample of an epoch was used exactly once",
       .details =
           "Reads what each worker wrote down before each vote, of a running or an ended job.\n"
           "Exit code 3 if it is not so.\nExample: launcher ledger digits-7f3a -o json\n",
       .options = {kOutput, kHelp},
       .max_operands = 1,
       .run = ProveLedger},
      {.name = "doctor",
       .usage = "[OPTIONS]",
       .summary = "check whether this machine, or a cluster, can run jobs",
       .details =
           "Exit code 2 if something is missing, 5 if the cluster is not reached.\nExamples: "
           "launcher doctor, launcher doctor --platform kubernetes -n research\n",
       .options = DoctorOptions(),
       .run = RunDoctor},
      {.name = "version",
       .usage = "[OPTIONS]",
       .summary = "print the version",
       .details = "",
       .options = {kOutput, kHelp},
       .run = ShowVersion},
      {.name = "coordinator",
       .usage = "--job-dir DIR | --platform kubernetes",
       .options = {kJobDir, kPlatform, kHelp},
       .hidden = true,
       .run = CoordinatorVerb},
      {.name = "agent",
       .usage = "--job-dir DIR --slot ID | --platform kubernetes",
       .options = {kJobDir,
                   {0, "slot", "ID", "the slot"},
                   {0, "listen", "IP", "one of several in a pod with this address"},
                   {0, "shares-at", "IP:PORT", "where the pod serves the job's files"},
                   kPlatform,
                   kHelp},
       .hidden = true,
       .run = AgentVerb},
  };
}

const Verb* FindVerb(const std::string& name) {
  for (const Verb& verb : Verbs()) {
    if (verb.name == name) return &verb;
  }
  return nullptr;
}

int UnknownVerb(const std::string& name) {
  std::vector<std::string> names{"help"};
  for (const Verb& verb : Verbs()) {
    if (!verb.hidden) names.push_back(verb.name);
  }
  const auto near = Nearest(name, names);
  PrintError(fmt::format("launcher: there is no verb \"{}\"\n  {}\n", name.substr(0, 100),
                         near ? fmt::format("did you mean: launcher {}?", *near)
                              : fmt::format("there are: {}", fmt::join(names, ", "))));
  return 2;
}

int Help(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) {
    Print(Overview());
    return 0;
  }
  const Verb* verb = FindVerb(arguments[1]);
  if (verb == nullptr) return UnknownVerb(arguments[1]);
  Print(VerbHelp(*verb));
  return 0;
}

int PrintFailure(const Verb& verb, const Error& error) {
  PrintError(fmt::format("launcher {}: {}\n", verb.name, error.message));
  if (!error.hint.empty()) PrintError(fmt::format("  {}\n", error.hint));
  return ExitCodeOf(error.code);
}

}  // namespace

const std::vector<Verb>& Verbs() {
  static const std::vector<Verb> verbs = MakeVerbs();
  return verbs;
}

int RunLauncher(const std::vector<std::string>& arguments) {
  const std::string first = arguments.empty() ? "help" : arguments[0];
  if (first == "help" || first == "--help" || first == "-h") return Help(arguments);
  const Verb* verb = FindVerb(first == "--version" ? "version" : first);
  if (verb == nullptr) return UnknownVerb(first);
  const auto invocation = ParseInvocation(*verb, {arguments.begin() + 1, arguments.end()});
  if (!invocation) return PrintFailure(*verb, invocation.error());
  if (invocation->Has("help")) {
    Print(VerbHelp(*verb));
    return 0;
  }
  const Result<int> exit_code = verb->run(*invocation);
  return exit_code ? *exit_code : PrintFailure(*verb, exit_code.error());
}

}  // namespace muster
