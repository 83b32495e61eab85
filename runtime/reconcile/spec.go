package reconcile

import (
	"fmt"
	"strconv"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

// specOf spells out an instance from what is stored.
func specOf(w paas.AppWork, want Want) driver.Spec {
	r := want.Release
	cpu := w.App.CPUMillis
	if cpu == 0 {
		cpu = paas.DefaultCPUMillis
	}
	grace := r.Grace
	if grace == 0 {
		grace = paas.DefaultShutdownGrace
	}
	return driver.Spec{
		ID: want.ID, AppID: w.App.ID, AppName: w.App.Name, Org: w.App.Org,
		Deployment: want.Deployment, Release: r.Number, Slot: want.Slot, Attempt: want.Attempt,
		Type: kindOf(r.Type), ImageRef: r.ImageRef, Command: r.Command, Env: environment(w, want),
		MemoryBytes: memoryLimit(w.App, r), CPUMillis: cpu, PIDs: paas.DefaultPIDs, Grace: grace,
	}
}

// environment is the image plan's, then the user's, then what the platform says
// and nobody may change, though a deployment.json may try (docs/contracts.md).
func environment(w paas.AppWork, want Want) []string {
	r := want.Release
	env := append([]string{"HOME=" + paas.InstanceHome}, r.Env...)
	for _, v := range w.Env[r.ConfigVersion] {
		env = append(env, v.Name+"="+string(v.Value))
	}
	return append(env,
		"PORT="+strconv.Itoa(paas.InstancePort),
		"ORA_PORT="+strconv.Itoa(paas.InstancePort),
		"HOST=0.0.0.0",
		"APP_HOME="+paas.InstanceHome,
		"ORA_APP_NAME="+w.App.Name,
		fmt.Sprintf("ORA_INSTANCE_NAME=%s.%d", kindOf(r.Type), want.Slot),
		"SLIPWAY_RELEASE="+strconv.Itoa(r.Number),
	)
}

// memoryLimit is the app's, else the release's, else the default.
func memoryLimit(a paas.App, r *paas.Release) int64 {
	switch {
	case a.MemoryBytes > 0:
		return a.MemoryBytes
	case r != nil && r.MemoryBytes > 0:
		return r.MemoryBytes
	}
	return paas.DefaultMemoryBytes
}
