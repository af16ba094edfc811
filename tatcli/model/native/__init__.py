"""Sources of the fused CPU kernels; ``tatcli.model.native_library`` compiles and loads them."""
