package network

import "fmt"

// step is one change with the words for its error.
type step struct {
	what string
	do   func() error
}

// steps does them in order up to the first that fails.
func steps(all ...step) error {
	for _, s := range all {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}
