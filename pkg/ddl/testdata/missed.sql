SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cipherfleet.missed_4294967295;
