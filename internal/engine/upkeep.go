package engine

import (
	"context"
	"time"
)

// startUpkeep repeats what one start cannot settle: the firewall (an adopted
// buildkitd may be without, and the allowed hosts' addresses change) and shims
// that nobody knows. It runs until stopUpkeep.
func (e *Engine) startUpkeep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopUpkeepLoop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.stopUpkeepLoop = cancel
	e.upkeep.Add(1)
	go func() {
		defer e.upkeep.Done()
		e.every(ctx, firewallRefresh, "firewall of builds", e.applyFirewallIfOurs)
	}()
	e.upkeep.Add(1)
	go func() {
		defer e.upkeep.Done()
		e.every(ctx, shimRefresh, "sweep shims", e.sweepShims)
	}()
}

func (e *Engine) every(ctx context.Context, d time.Duration, what string, do func(context.Context) error) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Log.Warn(what, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (e *Engine) stopUpkeep() {
	e.mu.Lock()
	cancel := e.stopUpkeepLoop
	e.stopUpkeepLoop = nil
	e.mu.Unlock()
	if cancel != nil {
		cancel()
		e.upkeep.Wait()
	}
}

func (e *Engine) applyFirewallIfOurs(ctx context.Context) error {
	if e.cfg.BuildkitAddress != "" {
		return nil
	}
	return e.applyFirewall(ctx)
}
