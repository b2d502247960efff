// Karpenter for the test cluster: its real controllers over a simulated cloud, whose machines can be out of stock.
//
// Machine types and prices come from the file $INSTANCE_TYPES_FILE_PATH, the time that a machine takes to boot from the
// KWOKNodeClass. The file $CLOUD_STOCK_FILE names what is out of stock at the moment: a JSON list of {"type", "capacity"}, where an
// empty "capacity" stands for spot and on-demand. As in real clouds, nobody can ask what there is: an order is refused.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	kwok "sigs.k8s.io/karpenter/kwok/cloudprovider"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	"sigs.k8s.io/karpenter/pkg/controllers"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/operator"
)

// How long a refused kind of machine counts as unavailable.
const refusalHolds = 20 * time.Second

type kind struct {
	Type     string `json:"type"`
	Capacity string `json:"capacity"`
}

type cloud struct {
	*kwok.CloudProvider
	kube  client.Client
	types []*cloudprovider.InstanceType
	stock string

	// Karpenter that has found nothing to save looks again only when it sees a change, or in 5 minutes. The end of a refusal is one.
	refusalEnds func()

	mutex   sync.Mutex
	refused map[kind]time.Time
}

// What the stock file says is missing; a file that cannot be read is an error, not a full stock.
func (c *cloud) missing() (map[kind]bool, error) {
	text, err := os.ReadFile(c.stock)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var kinds []kind
	if err := json.Unmarshal(text, &kinds); err != nil {
		return nil, fmt.Errorf("%s: %w", c.stock, err)
	}
	missing := map[kind]bool{}
	for _, k := range kinds {
		if k.Capacity != "" {
			missing[k] = true
			continue
		}
		missing[kind{k.Type, v1.CapacityTypeSpot}] = true
		missing[kind{k.Type, v1.CapacityTypeOnDemand}] = true
	}
	return missing, nil
}

// The types, with the offerings that `available` denies taken off the shelf.
func (c *cloud) shelf(available func(kind) bool) []*cloudprovider.InstanceType {
	var types []*cloudprovider.InstanceType
	for _, t := range c.types {
		offerings := cloudprovider.Offerings{}
		for _, o := range t.Offerings {
			copied := *o
			copied.Available = o.Available && available(kind{t.Name, o.CapacityType()})
			offerings = append(offerings, &copied)
		}
		types = append(types, &cloudprovider.InstanceType{Name: t.Name, Requirements: t.Requirements,
			Offerings: offerings, Capacity: t.Capacity, Overhead: t.Overhead})
	}
	return types
}

func (c *cloud) GetInstanceTypes(context.Context, *v1.NodePool) ([]*cloudprovider.InstanceType, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.shelf(func(k kind) bool { return time.Since(c.refused[k]) >= refusalHolds }), nil
}

func (c *cloud) Create(ctx context.Context, claim *v1.NodeClaim) (*v1.NodeClaim, error) {
	missing, err := c.missing()
	if err != nil {
		return nil, err
	}
	wanted := claim.DeepCopy()
	capacities := values(wanted, v1.CapacityTypeLabelKey)
	if len(*capacities) == 0 {
		capacities = &[]string{v1.CapacityTypeSpot, v1.CapacityTypeOnDemand}
	}
	types := values(wanted, corev1.LabelInstanceTypeStable)
	var left []string
	c.mutex.Lock()
	for _, name := range *types {
		any := false
		for _, capacity := range *capacities {
			if k := (kind{name, capacity}); missing[k] {
				c.refused[k] = time.Now()
				time.AfterFunc(refusalHolds, c.refusalEnds)
			} else {
				any = true
			}
		}
		if any {
			left = append(left, name)
		}
	}
	c.mutex.Unlock()
	if len(left) == 0 {
		return nil, cloudprovider.NewInsufficientCapacityError(fmt.Errorf("out of stock: %v", *types))
	}
	*types = left
	inStock := c.shelf(func(k kind) bool { return !missing[k] })
	return kwok.NewCloudProvider(ctx, c.kube, inStock).Create(ctx, wanted)
}

// The values that a claim requires for a label, to be read or replaced.
func values(claim *v1.NodeClaim, label string) *[]string {
	for i := range claim.Spec.Requirements {
		if claim.Spec.Requirements[i].Key == label {
			return &claim.Spec.Requirements[i].Values
		}
	}
	return &[]string{}
}

func main() {
	ctx, op := operator.NewOperator()
	types, err := kwok.ConstructInstanceTypes(ctx)
	if err != nil {
		log.FromContext(ctx).Error(err, "no instance types")
		os.Exit(1)
	}
	provider := &cloud{CloudProvider: kwok.NewCloudProvider(ctx, op.GetClient(), types), kube: op.GetClient(),
		types: types, stock: os.Getenv("CLOUD_STOCK_FILE"), refused: map[kind]time.Time{}}
	decorated := overlay.Decorate(provider, op.GetClient(), op.InstanceTypeStore)
	cluster := state.NewCluster(op.Clock, op.GetClient(), decorated)
	provider.refusalEnds = func() { cluster.MarkUnconsolidated() }
	op.WithControllers(ctx, controllers.NewControllers(ctx, op.Manager, op.Clock, op.GetClient(), op.EventRecorder,
		decorated, provider, cluster, op.InstanceTypeStore)...).Start(ctx)
}
