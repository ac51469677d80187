SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cipherfleet.reverse_missed_4294967295;
