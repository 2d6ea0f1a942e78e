"""Models: ViT-Lite, CVT and CCT of exchangeable parts, baselines, and their weights.

To add a tokenizer, a pooling or a position embedding, write its class in `tokenizer.py`, `pooling.py` or `position.py`
and enter it in the table at the end of that file; its costs and its receptive field are counted and measured. A size or
a name goes into `arch.py`, another architecture into `baselines.py`, a published file into `weights/download.py`.
`complexity.py` counts costs, `parts.py` builds parts from their names and arguments, `factory.py` whole models.
"""
