"""The demo: `python app.py` opens the page (restoration/page/layout.py)."""

import spaces  # noqa: F401  first of all: on ZeroGPU it stands in for CUDA, which nothing may have touched before

from restoration.page.layout import main

if __name__ == "__main__":
    main()
