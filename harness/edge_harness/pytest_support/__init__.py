"""What the plugin's hooks are made of."""
