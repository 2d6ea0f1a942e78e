"""Models: ViT-Lite, CVT and CCT of exchangeable parts, baselines, published weights, export."""
