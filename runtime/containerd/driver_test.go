package containerd

import (
	"testing"

	"github.com/slipway-paas/slipway/runtime/driver/drivertest"
)

func TestContainerd_KeepsTheContract(t *testing.T) {
	m := newMachine(t)
	t.Run("suite", func(t *testing.T) { drivertest.Run(t, m.Subject) })
}
