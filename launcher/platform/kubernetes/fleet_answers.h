// FleetAnswers: what the API server's answers to creates and deletes of pods mean to FleetCore. Pure.
//
// Threading: pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "k8s/client/api_error.h"
#include "launcher/platform/kubernetes/fleet_events.h"

namespace muster::kubernetes {

// What a create that failed came to.
//   409 AlreadyExists        kUnknown: look at it           409 of another kind  kBusy: a quota was updated meanwhile
//   429                      kBusy                          401                  kBusy: fresh credentials may come
//   other 4xx                kRefused: quota, rights, an admission webhook; it will not help to repeat it soon
//   5xx, no answer           kUnknown; 500: look at it
fleet::CreateAnswered CreateFailed(const std::string& name, const k8s::ApiFailure& failure);

// Whether a look at the pod would tell more than CreateFailed can.
bool IsWorthALook(const k8s::ApiFailure& failure);

// After a look, which has shown `pod`; null: there is none of that name.
fleet::CreateAnswered LookedAt(const std::string& name, const std::string& run,
                               const k8s::ApiFailure& failure, const nlohmann::json& pod);

//   404, 409 (of that name there is one with another uid)  kNotFound
//   401, 429, 5xx, no answer                               kBusy
//   others                                                 kFailed
fleet::DeleteAnswered DeleteFailed(const std::string& name, const std::string& uid,
                                   const k8s::ApiFailure& failure);

// Whether the API server, or the way to it, is to blame, and not the request.
bool IsFault(const k8s::ApiFailure& failure);

}  // namespace muster::kubernetes
