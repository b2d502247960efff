#include "launcher/platform/kubernetes/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace muster::kubernetes {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::IsSubsetOf;
using testing::Not;

TEST(RightsIn, TakesARuleApart) {
  const Json role = {{"rules", Json::array({{{"apiGroups", {""}},
                                             {"resources", {"a", "b/log"}},
                                             {"verbs", {"get", "list"}}},
                                            {{"apiGroups", {"g"}},
                                             {"resources", {"c"}},
                                             {"verbs", {"get"}},
                                             {"resourceNames", {"mine"}}}})}};
  EXPECT_THAT(RightsIn(role), ElementsAre(Right{"", "a", "get"}, Right{"", "a", "list"},
                                          Right{"", "b/log", "get"}, Right{"", "b/log", "list"}));
}

TEST(RightsToRun, HoldAllThatTheCoordinatorGets) {
  ClusterRun run;
  run.spec.name = "a";
  run.spec.id = std::string(32, '0');
  Json role = CoordinatorRights(run).at(1);
  ASSERT_EQ(role["kind"], "Role");
  for (Json& rule : role["rules"]) rule.erase("resourceNames");
  EXPECT_THAT(RightsIn(role), IsSubsetOf(RightsToRun(true)))
      << "nobody may hand on rights that he does not have";
}

TEST(RightsToRun, NeedNoRolesWithAnAccountThatIsThere) {
  const Right right{"rbac.authorization.k8s.io", "roles", "create"};
  EXPECT_THAT(RightsToRun(true), Contains(right));
  EXPECT_THAT(RightsToRun(false), Not(Contains(right)));
  EXPECT_THAT(RightsToRun(false), Contains(Right{"", "pods", "create"}));
}

TEST(ReviewOf, NamesTheSubresourceByItself) {
  const json attributes = ReviewOf({"", "pods/log", "get"}, "lab")["spec"]["resourceAttributes"];
  EXPECT_EQ(attributes, json({{"namespace", "lab"},
                              {"verb", "get"},
                              {"group", ""},
                              {"resource", "pods"},
                              {"subresource", "log"}}));
}

TEST(IsAllowed, IsWhatTheServerSaysAndNothingElse) {
  EXPECT_TRUE(IsAllowed({{"status", {{"allowed", true}}}}));
  EXPECT_FALSE(IsAllowed({{"status", {{"allowed", false}}}}));
  EXPECT_FALSE(IsAllowed({{"status", {{"allowed", "true"}}}}));
  EXPECT_FALSE(IsAllowed(json::object()));
}

TEST(RightsText, JoinsTheVerbsOfAResource) {
  EXPECT_EQ(RightsText({{"", "secrets", "create"}, {"", "secrets", "get"}, {"g", "roles", "get"}}),
            "create, get secrets; get roles.g");
  EXPECT_EQ(RightsText({{"a", "x", "get"}, {"b", "x", "get"}}), "get x.a; get x.b");
}

}  // namespace
}  // namespace muster::kubernetes
