package runs

import (
	"context"
	"errors"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/workflows"
)

// Free finds out, before anything is sent, whether a name is free for a spec that is not prepared yet, or already that of the same
// run. Otherwise it is a ConflictError. Local files are read, for their digests, only where the name is taken.
func (c *Client) Free(ctx context.Context, spec config.Run, dir string) error {
	var standing workflows.SelfTrainInput
	if taken, err := c.taken(ctx, spec.Name, &standing); !taken {
		return err
	}
	wanted, err := c.silent().Prepare(ctx, spec, dir, func(UploadProgress) {})
	if err != nil {
		return err
	}
	return differ(standing.Spec, wanted, standing.Spec.Name, spec.Name)
}

// FreeScore is Free for the generate-and-score recipe.
func (c *Client) FreeScore(ctx context.Context, spec config.Score, dir string) error {
	var standing workflows.ScoreInput
	if taken, err := c.taken(ctx, spec.Name, &standing); !taken {
		return err
	}
	wanted, err := c.silent().PrepareScore(ctx, spec, dir, func(UploadProgress) {})
	if err != nil {
		return err
	}
	return differ(standing.Spec, wanted, standing.Spec.Name, spec.Name)
}

// taken reads the record of a run, if there is one.
func (c *Client) taken(ctx context.Context, name string, standing any) (bool, error) {
	err := c.getJSON(ctx, recordKey(name), standing)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// silent returns a client that tells addresses of uploads and sends nothing.
func (c *Client) silent() *Client { return &Client{Store: c.Store, unsent: true} }

// differ is the conflict between what stands under a name and what is wanted; nil where they are the same.
func differ[T config.Run | config.Score](standing, wanted T, recorded, name string) error {
	if recorded == "" {
		return conflict(name, nil, "of another kind")
	}
	if diff := Differences(standing, wanted); len(diff) > 0 {
		return conflict(name, diff, "")
	}
	return nil
}
