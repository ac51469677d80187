package manifest

import (
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

// Given tells which keys a manifest's file sets outside of its tables: "kek", "fleet.chunk.rows" and so on. All others
// have their defaults.
func Given(path string) (map[string]bool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("read the manifest: it is not YAML")
	}
	given := map[string]bool{}
	for _, root := range document.Content {
		keys(root, "", given)
	}
	return given, nil
}

func keys(n *yaml.Node, path string, given map[string]bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		given[path] = true
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		keys(n.Content[i+1], join(path, n.Content[i].Value), given)
	}
}
