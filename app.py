"""The demo: `python app.py` opens the page (restoration/page/layout.py)."""

from restoration.page.layout import main

if __name__ == "__main__":
    main()
